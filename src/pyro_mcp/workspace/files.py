"""Listing, reading and writing files of a workspace."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.guest import tools
from pyro_mcp.guest.client import GuestClient
from pyro_mcp.guest.outgoing import SIZES
from pyro_mcp.guest.violation import ProtocolViolation
from pyro_mcp.workspace.command_words import check_range
from pyro_mcp.workspace.json_lines import LineReader, bounded, decoded, json_object, split_head
from pyro_mcp.workspace.paths import inside
from pyro_mcp.workspace_models import (
    FILE_BYTES,
    FileContent,
    FileEntry,
    FileListing,
    ListFiles,
    ReadFile,
    WriteFile,
    WrittenFile,
)

_LIMITS = range(1, 100_001)
_MODES = range(0o10000)
_KINDS = ("file", "directory", "symlink", "other")
_LISTING_BYTES = 64 << 20
_LINES_AT_ONCE = 256  # before other tasks of the daemon get their turn
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS = range(-(1 << 36), 1 << 36)  # what a file's time may be: some 2,000 years either way


async def list_files(guest: GuestClient, request: ListFiles) -> FileListing:
    """What is in a folder. Raises `NotFound`, `InvalidRequest`, `GuestFailed`."""
    check_range("limit", request.limit, _LIMITS)
    path = inside(request.path)
    listing = _Listing(request.limit)
    tool = tools.ListTool(path, recursive=request.recursive, limit=request.limit)
    await tools.run(guest, tool, on_output=listing.take)
    return FileListing(path, tuple(listing.entries), listing.finish())


async def read_file(guest: GuestClient, request: ReadFile) -> FileContent:
    """Part of a file. Raises `NotFound`, `InvalidRequest`, `GuestFailed`."""
    check_range("max_bytes", request.max_bytes, range(1, FILE_BYTES + 1))
    check_range("offset", request.offset, SIZES)
    path = inside(request.path)
    tool = tools.ReadTool(path, request.offset, request.max_bytes)
    head, data = split_head(await tools.run(guest, tool, most=request.max_bytes))
    size = bounded(decoded(_ReadHead, head).size, SIZES)
    if len(data) > request.max_bytes:
        raise ProtocolViolation("more of a file than was asked for")
    return FileContent(path, request.offset, data, size, truncated=request.offset + len(data) < size)


async def write_file(guest: GuestClient, request: WriteFile) -> WrittenFile:
    """Give a file new content, whole or not at all. Raises `InvalidRequest`, `HostUnfit` (disk full), `GuestFailed`."""
    if len(request.data) > FILE_BYTES:
        raise InvalidRequest(
            "file_too_large",
            f"{len(request.data)} bytes are more than the {FILE_BYTES >> 20} MiB that can be written at once",
            "copy large files with `pyro workspace sync push`",
        )
    path = inside(request.path)
    answer = await tools.run(guest, tools.WriteTool(path), stdin=request.data)
    written = decoded(_Written, json_object(answer))
    return WrittenFile(path, bounded(written.size, SIZES), written.created)


@dataclass(frozen=True)
class _ReadHead:
    size: int
    mode: int
    mtime_ns: int


@dataclass(frozen=True)
class _Written:
    size: int
    created: bool


@dataclass(frozen=True)
class _Listed:
    path: str
    kind: str
    size: int
    mode: int
    mtime_ns: int
    target: str | None = None


class _Listing:
    """Entries as they arrive."""

    def __init__(self, limit: int) -> None:
        self.entries: list[FileEntry] = []
        self._lines = LineReader()
        self._limit = limit
        self._left = _LISTING_BYTES
        self._truncated = False

    async def take(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise ProtocolViolation(f"a listing of more than {_LISTING_BYTES >> 20} MiB")
        self._lines.feed(data)
        while (line := self._lines.line()) is not None:
            self._take_line(line)
            if len(self.entries) % _LINES_AT_ONCE == 0:
                await asyncio.sleep(0)

    def finish(self) -> bool:
        """Whether there were more entries than could be listed."""
        if not self._lines.empty:
            raise ProtocolViolation("a listing that ends inside a line")
        return self._truncated

    def _take_line(self, line: bytes) -> None:
        content = json_object(line)
        if self._truncated or (len(self.entries) == self._limit and content != {"truncated": True}):
            raise ProtocolViolation("a listing that goes on after its end")
        if content == {"truncated": True}:
            self._truncated = True
        else:
            self.entries.append(_entry(decoded(_Listed, content)))


def _entry(listed: _Listed) -> FileEntry:
    if listed.kind not in _KINDS or not listed.path.startswith("/"):
        raise ProtocolViolation("a listed file that cannot be")
    return FileEntry(
        path=listed.path,
        kind=listed.kind,
        size=bounded(listed.size, SIZES),
        mode=bounded(listed.mode, _MODES),
        modified_at=_timestamp(listed.mtime_ns),
        target=listed.target,
    )


def _timestamp(nanoseconds: int) -> str:
    """ISO 8601 in UTC, to the microsecond."""
    seconds = bounded(nanoseconds // 10**9, _SECONDS)
    try:
        moment = _EPOCH + timedelta(seconds=seconds, microseconds=nanoseconds % 10**9 // 1000)
    except OverflowError:
        moment = _EPOCH  # a time that no calendar here can say; the guest may set any
    return moment.isoformat()
