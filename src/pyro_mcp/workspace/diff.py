"""What differs from the baseline."""

import asyncio
from dataclasses import dataclass

from pyro_mcp.guest import tools
from pyro_mcp.guest.client import GuestClient
from pyro_mcp.guest.outgoing import SIZES
from pyro_mcp.guest.violation import ProtocolViolation
from pyro_mcp.workspace.command_words import check_range
from pyro_mcp.workspace.json_lines import LineReader, bounded, decoded, json_object
from pyro_mcp.workspace_models import DiffEntry, DiffReport, DiffRequest

_MAX_BYTES = range((64 << 20) + 1)
_MOST_ENTRIES = 200_000
_ENTRY_BYTES = 64 << 20  # of all lines that tell of entries
_TEXT_SLACK = 1 << 20  # bytes of text beyond what was asked for: one file's worth of headers, and then some
_CHANGES = ("added", "modified", "deleted", "renamed", "mode", "type")
_LINES_AT_ONCE = 256  # before other tasks of the daemon get their turn
_MODES = range(0o200000)


async def diff(guest: GuestClient, request: DiffRequest) -> DiffReport:
    """All differences from the baseline, as entries and as patch text.

    More than 200,000 entries are cut off there. Raises `InvalidRequest`, `GuestFailed`.
    """
    check_range("max_bytes", request.max_bytes, _MAX_BYTES)
    reading = _Reading(request.max_bytes + _TEXT_SLACK)
    try:
        await tools.run(guest, tools.DiffTool(request.max_bytes), on_output=reading.take)
    except _Enough:
        return reading.report(truncated=True)
    return reading.report(truncated=reading.finish())


class _Enough(Exception):
    """There are more entries than anybody reads."""


@dataclass(frozen=True)
class _Entry:
    path: str
    change: str
    kind: str
    old_path: str | None
    old_mode: int | None
    new_mode: int | None
    insertions: int
    deletions: int
    binary: bool
    text_bytes: int


@dataclass(frozen=True)
class _End:
    end: bool
    truncated: bool


class _Reading:
    """The tool's stream: lines of JSON, each followed by as many bytes of text as it says."""

    def __init__(self, most_text: int) -> None:
        self._lines = LineReader()
        self._entries: list[DiffEntry] = []
        self._text = bytearray()
        self._most_text = most_text
        self._line_bytes = 0
        self._awaited = 0  # bytes of text that belong to the last entry and have not come yet
        self._end: _End | None = None

    async def take(self, data: bytes) -> None:
        self._lines.feed(data)
        turn = 0
        while self._take_text() and (line := self._lines.line()) is not None:
            self._take_line(line)
            turn += 1
            if turn % _LINES_AT_ONCE == 0:
                await asyncio.sleep(0)

    def finish(self) -> bool:
        """Whether text was left out; raises `ProtocolViolation` where the stream is not complete."""
        if self._end is None or self._awaited or not self._lines.empty:
            raise ProtocolViolation("differences without an end")
        return self._end.truncated

    def report(self, *, truncated: bool) -> DiffReport:
        return DiffReport(
            entries=tuple(self._entries),
            text=bytes(self._text),
            truncated=truncated,
            insertions=sum(entry.insertions for entry in self._entries),
            deletions=sum(entry.deletions for entry in self._entries),
        )

    def _take_text(self) -> bool:
        """Take the text that is awaited; False while some of it is missing."""
        if self._awaited:
            text = self._lines.raw(self._awaited)
            self._text += text
            self._awaited -= len(text)
        return self._awaited == 0

    def _take_line(self, line: bytes) -> None:
        self._line_bytes += len(line)
        if self._end is not None or self._line_bytes > _ENTRY_BYTES:
            raise ProtocolViolation("differences that do not end")
        content = json_object(line)
        if "end" in content:
            self._end = decoded(_End, content)
        elif len(self._entries) == _MOST_ENTRIES:
            raise _Enough
        else:
            self._take_entry(decoded(_Entry, content))

    def _take_entry(self, entry: _Entry) -> None:
        if entry.change not in _CHANGES:
            raise ProtocolViolation(f"the unknown change {entry.change[:40]!r}")
        self._awaited = bounded(entry.text_bytes, range(self._most_text - len(self._text) + 1))
        for mode in (entry.old_mode, entry.new_mode):
            if mode is not None:
                bounded(mode, _MODES)
        self._entries.append(
            DiffEntry(
                path=entry.path,
                change=entry.change,
                kind=entry.kind,
                old_path=entry.old_path,
                old_mode=entry.old_mode,
                new_mode=entry.new_mode,
                insertions=bounded(entry.insertions, SIZES),
                deletions=bounded(entry.deletions, SIZES),
                binary=entry.binary,
            )
        )
