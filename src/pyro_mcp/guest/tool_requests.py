"""What the agent can do by itself, without a program of the guest: one dataclass a tool (protocol/README.md, "Tools").

Paths are absolute: `/workspace` or below it. Whatever a tool reads or writes goes over its stdin and stdout.
"""

from dataclasses import dataclass

from pyro_mcp import models


@dataclass(frozen=True)
class ListTool:
    """What is in a folder, as JSON lines; at most `limit` of them."""

    path: str
    recursive: bool
    limit: int


@dataclass(frozen=True)
class ReadTool:
    """A file's state as one JSON line, then at most `limit` bytes of it from `offset`."""

    path: str
    offset: int
    limit: int


@dataclass(frozen=True)
class WriteTool:
    """Make stdin the content of a file."""

    path: str


@dataclass(frozen=True)
class UnpackTool:
    """Unpack the tar on stdin into a folder."""

    path: str


@dataclass(frozen=True)
class PackTool:
    """A folder or file as a tar."""

    path: str


@dataclass(frozen=True)
class DiffTool:
    """Every difference from the baseline, with at most `max_bytes` of patch text in all."""

    max_bytes: int


@dataclass(frozen=True)
class PatchTool:
    """Apply the patch on stdin to `/workspace`, all or nothing."""


@dataclass(frozen=True)
class OutputTool:
    """At most `limit` bytes of a kept command's output from `offset`; with `grep` only of the lines that match."""

    id: str
    offset: int
    limit: int
    grep: str | None = None


@dataclass(frozen=True)
class SpareTool:
    """Drop what is cached of files and not in use, and tell how much memory is free, as one JSON line."""


Tool = ListTool | ReadTool | WriteTool | UnpackTool | PackTool | DiffTool | PatchTool | OutputTool | SpareTool

_NAMES: dict[type, str] = {
    ListTool: "list",
    ReadTool: "read",
    WriteTool: "write",
    UnpackTool: "unpack",
    PackTool: "pack",
    DiffTool: "diff",
    PatchTool: "patch",
    OutputTool: "output",
    SpareTool: "spare",
}


def tool_name(tool: Tool) -> str:
    """What the protocol calls it."""
    return _NAMES[type(tool)]


def tool_to_json(tool: Tool) -> dict[str, object]:
    """A tool as the JSON object that goes to the agent."""
    return {"name": tool_name(tool), **models.encode(tool)}
