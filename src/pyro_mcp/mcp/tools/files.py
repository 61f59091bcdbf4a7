"""Files of a workspace: list, read, write, and change by patch."""

from dataclasses import dataclass
from typing import Annotated

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.mcp import output
from pyro_mcp.mcp.call import Call
from pyro_mcp.mcp.tools.tool import CHANGES, READS, SETS, Offset, Reply, Tool
from pyro_mcp.workspace_models import SHOWN_OUTPUT_BYTES, WORKSPACE_FOLDER, FileEntry, PatchedFile

_ENTRY_BYTES = 40  # what an entry takes beside its name and its target
_LISTED = SHOWN_OUTPUT_BYTES // _ENTRY_BYTES  # more never fit
_PATCHED = 100
FilePath = Annotated[str, "below /workspace, or relative to it"]


@dataclass(frozen=True)
class ListParameters:
    workspace: str
    path: Annotated[str, f"default {WORKSPACE_FOLDER}"] = WORKSPACE_FOLDER
    recursive: Annotated[bool, "default false"] = False


@dataclass(frozen=True)
class ListedFile:
    path: str
    kind: str
    size: int
    target: str | None = None


@dataclass(frozen=True)
class FilesReply:
    path: str
    entries: tuple[ListedFile, ...]
    truncated: bool


@dataclass(frozen=True)
class ReadParameters:
    workspace: str
    path: FilePath
    offset: Offset = 0
    max_bytes: Annotated[int, f"default {SHOWN_OUTPUT_BYTES}", range(1, 65537)] = SHOWN_OUTPUT_BYTES


@dataclass(frozen=True)
class ReadReply:
    content: str
    size: int
    next_offset: int | None = None


@dataclass(frozen=True)
class WriteParameters:
    workspace: str
    path: FilePath
    text: Annotated[str, "the whole new content"]


@dataclass(frozen=True)
class WriteReply:
    path: str
    size: int
    created: bool


@dataclass(frozen=True)
class PatchParameters:
    workspace: str
    patch: Annotated[str, "unified diff, of one or more files"]


@dataclass(frozen=True)
class ChangedFile:
    path: str
    change: str
    old_path: str | None = None


@dataclass(frozen=True)
class PatchReply:
    files: tuple[ChangedFile, ...]


async def workspace_file_list(call: Call, parameters: ListParameters) -> Reply:
    """What is in a folder, as much of it as fits into an answer."""
    found = await call.pyro.list_workspace_files(
        parameters.workspace, parameters.path, recursive=parameters.recursive, limit=_LISTED
    )
    below = found.path.rstrip("/") + "/"
    listed, lines, room = [], [], SHOWN_OUTPUT_BYTES
    for entry in found.entries:
        name = entry.path.removeprefix(below)
        room -= len(f"{name}{entry.target or ''}".encode(errors="replace")) + _ENTRY_BYTES
        if room < 0:
            break
        listed.append(ListedFile(name, entry.kind, entry.size, entry.target))
        lines.append(_line(entry, name))
    left_out = len(found.entries) - len(listed)
    if left_out or found.truncated:
        more = f"more than {left_out} more" if found.truncated else f"{left_out} more"
        lines.append(f"[{more}; list a folder below, or use workspace_exec with find]")
    reply = FilesReply(found.path, tuple(listed), bool(left_out) or found.truncated)
    return Reply("\n".join(lines) or "empty", reply)


def _line(entry: FileEntry, name: str) -> str:
    match entry.kind:
        case "directory":
            return f"{name}/"
        case "symlink":
            return f"{name} -> {entry.target}"
        case "file":
            return f"{name}  {entry.size}"
        case _:
            return f"{name}  ({entry.kind})"


async def workspace_file_read(call: Call, parameters: ReadParameters) -> Reply:
    """A part of a text file that ends with a whole line where it can."""
    found = await call.pyro.read_workspace_file(
        parameters.workspace, parameters.path, max_bytes=parameters.max_bytes, offset=parameters.offset
    )
    data = (output.whole_lines(found.data) or found.data) if found.truncated else found.data
    try:
        content = data.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(
            "not_utf8",
            f"{parameters.path} is not UTF-8 text",
            "look at it with workspace_exec and xxd or file, or read from an offset that begins a character",
        ) from None
    if "\0" in content:
        raise InvalidRequest(
            "not_utf8", f"{parameters.path} is a binary file, with NUL bytes", "look at it with workspace_exec and xxd"
        )
    next_offset = parameters.offset + len(data) if found.truncated else None
    note = "" if next_offset is None else f"\n[{found.size} bytes in all: read on with offset={next_offset}]"
    nothing = f"[nothing at offset={parameters.offset}: {found.size} bytes in all]" if found.size else "[empty file]"
    return Reply(f"{content}{note}" or nothing, ReadReply(content, found.size, next_offset))


async def workspace_file_write(call: Call, parameters: WriteParameters) -> Reply:
    """Write a whole file."""
    done = await call.pyro.write_workspace_file(parameters.workspace, parameters.path, parameters.text)
    verb = "created" if done.created else "replaced"
    return Reply(f"{verb} {done.path}, {done.size} bytes", WriteReply(done.path, done.size, done.created))


async def workspace_patch_apply(call: Call, parameters: PatchParameters) -> Reply:
    """Apply a patch, all of it or nothing."""
    done = await call.pyro.apply_workspace_patch(parameters.workspace, parameters.patch)
    lines = [_patched(each) for each in done.files[:_PATCHED]]
    if len(done.files) > _PATCHED:
        lines.append(f"[{len(done.files) - _PATCHED} more]")
    changed = tuple(ChangedFile(each.path, each.change, each.old_path) for each in done.files[:_PATCHED])
    return Reply("\n".join(lines), PatchReply(changed))


def _patched(each: PatchedFile) -> str:
    words = f"{each.change} {each.path}"
    if each.old_path:
        words += f" (was {each.old_path})"
    if each.offset_lines:
        words += f" (up to {each.offset_lines} lines from where the patch said)"
    return words


TOOLS = (
    Tool(
        "workspace_file_list",
        "List files",
        "Use to see what is in a folder of a workspace.",
        READS,
        ListParameters,
        FilesReply,
        workspace_file_list,
    ),
    Tool(
        "workspace_file_read",
        "Read a file",
        "Use to read a text file, in pages if it is long.",
        READS,
        ReadParameters,
        ReadReply,
        workspace_file_read,
    ),
    Tool(
        "workspace_file_write",
        "Write a file",
        "Use to create a file or replace all of it. Missing folders are made, the mode is kept.",
        SETS,
        WriteParameters,
        WriteReply,
        workspace_file_write,
    ),
    Tool(
        "workspace_patch_apply",
        "Apply a patch",
        "Use to edit files: all hunks apply, or nothing changes and the error says which failed and why.",
        CHANGES,
        PatchParameters,
        PatchReply,
        workspace_patch_apply,
    ),
)
