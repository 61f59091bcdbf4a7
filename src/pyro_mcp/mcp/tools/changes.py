"""What changed in a workspace, and the ways in and out for files of the host."""

from dataclasses import dataclass
from typing import Annotated

from pyro_mcp.mcp import output
from pyro_mcp.mcp.call import Call
from pyro_mcp.mcp.patch_view import for_reading
from pyro_mcp.mcp.tools.tool import CHANGES, READS, SETS, Offset, PageBytes, Reply, Tool, with_note
from pyro_mcp.workspace_models import SHOWN_OUTPUT_BYTES, WORKSPACE_FOLDER, DiffEntry

_LISTED = 30


@dataclass(frozen=True)
class DiffParameters:
    workspace: str
    offset: Offset = 0
    limit: PageBytes = SHOWN_OUTPUT_BYTES


@dataclass(frozen=True)
class DiffFile:
    path: str
    change: str
    insertions: int
    deletions: int
    old_path: str | None = None
    binary: bool | None = None


@dataclass(frozen=True)
class DiffReply:
    files: tuple[DiffFile, ...]
    files_changed: int
    insertions: int
    deletions: int
    diff: str
    truncated: bool
    next_offset: int | None = None


@dataclass(frozen=True)
class SyncParameters:
    workspace: str
    source: Annotated[str, "folder of the user's machine"]
    dest: Annotated[str, f"default {WORKSPACE_FOLDER}"] = WORKSPACE_FOLDER


@dataclass(frozen=True)
class SyncReply:
    dest: str
    files: int
    bytes: int
    note: str | None = None


@dataclass(frozen=True)
class ExportParameters:
    workspace: str
    path: Annotated[str, "file or folder in the workspace"]
    output: Annotated[str, "new file or folder on the user's machine"]


@dataclass(frozen=True)
class ExportReply:
    output: str
    files: int
    bytes: int
    skipped: tuple[str, ...]


async def workspace_diff(call: Call, parameters: DiffParameters) -> Reply:
    """All that differs from the baseline, and a page of it as a patch."""
    found = await call.pyro.diff_workspace(parameters.workspace)
    text = for_reading(found.text)
    page = text[parameters.offset : parameters.offset + parameters.limit]
    end = parameters.offset + len(page)
    if end < len(text):
        page = output.whole_lines(page) or page
        end = parameters.offset + len(page)
    next_offset = end if end < len(text) else None
    entries = sorted(found.entries, key=_of_interest)[:_LISTED] if parameters.offset == 0 else []
    files = tuple(_listed(each) for each in entries)
    shown = output.text(page)
    counts = (len(found.entries), found.insertions, found.deletions)
    reply = DiffReply(files, *counts, shown, found.truncated, next_offset)
    if not found.entries:
        return Reply("no changes since the baseline", reply)
    lines = [f"{len(found.entries)} files changed, {found.insertions} insertions(+), {found.deletions} deletions(-)"]
    lines += [_line(each) for each in entries]
    if parameters.offset == 0 and len(found.entries) > len(files):
        lines.append(f"[{len(found.entries) - len(files)} more files]")
    lines += ["", shown] if shown else []
    if next_offset is not None:
        lines.append(f"[{len(text)} bytes in all: read on with offset={next_offset}]")
    if found.truncated:
        lines.append("[the diff is larger than pyro shows; export the files, or use workspace_exec]")
    return Reply("\n".join(lines), reply)


def _of_interest(each: DiffEntry) -> tuple[bool, bool]:
    """What is text before what is not, and what was there before what is new, each in its order."""
    return bool(each.binary), each.change == "added"


def _listed(each: DiffEntry) -> DiffFile:
    return DiffFile(each.path, each.change, each.insertions, each.deletions, each.old_path, each.binary or None)


def _line(each: DiffEntry) -> str:
    words = f"{each.change} {each.path}"
    if each.old_path:
        words += f" (was {each.old_path})"
    return f"{words} (binary)" if each.binary else f"{words} +{each.insertions} -{each.deletions}"


async def workspace_sync_push(call: Call, parameters: SyncParameters) -> Reply:
    """Copy a folder that the user allows into a workspace."""
    source = call.limits.folders.source(parameters.source)
    async with call.telling("copying") as teller:
        done = await call.pyro.push_workspace_sync(
            parameters.workspace, source, dest=parameters.dest, on_progress=teller.progress
        )
    words = f"{done.files} files, {done.bytes} bytes to {done.dest}"
    return Reply(with_note(words, teller.note), SyncReply(done.dest, done.files, done.bytes, teller.note))


async def workspace_export(call: Call, parameters: ExportParameters) -> Reply:
    """Copy a file or folder out, to where the user allows it."""
    output_path = call.limits.folders.output(parameters.output)
    async with call.telling("copying") as teller:
        done = await call.pyro.export_workspace(
            parameters.workspace, parameters.path, output_path, on_progress=teller.progress
        )
    words = f"{done.files} files, {done.bytes} bytes to {parameters.output}"
    skipped = done.skipped[:_LISTED]
    if done.skipped:
        words += f"; left out {done.skipped_count} ({', '.join(done.skipped_kinds)}): {', '.join(skipped)}"
    return Reply(words, ExportReply(parameters.output, done.files, done.bytes, skipped))


TOOLS = (
    Tool(
        "workspace_sync_push",
        "Copy files into a workspace",
        "Use to bring newer files of the user's project into a workspace.",
        SETS,
        SyncParameters,
        SyncReply,
        workspace_sync_push,
    ),
    Tool(
        "workspace_diff",
        "Show changes",
        "Use to review what changed since creation: files, and a patch, without binary contents.",
        READS,
        DiffParameters,
        DiffReply,
        workspace_diff,
    ),
    Tool(
        "workspace_export",
        "Copy files out",
        "Use to hand results to the user. Never overwrites: output must be new, in the project's folder.",
        CHANGES,
        ExportParameters,
        ExportReply,
        workspace_export,
    ),
)
