"""A command's output: what an answer shows of it, and pages of what the guest keeps."""

from dataclasses import dataclass

from pyro_mcp.errors import InvalidRequest, NotFound
from pyro_mcp.guest import tools
from pyro_mcp.guest.client import GuestClient
from pyro_mcp.guest.outgoing import SIZES
from pyro_mcp.guest.violation import ProtocolViolation
from pyro_mcp.workspace.command_words import check_range
from pyro_mcp.workspace.json_lines import bounded, decoded, split_head
from pyro_mcp.workspace_models import SHOWN_OUTPUT_BYTES, OutputPage, OutputQuery

_END_BYTES = SHOWN_OUTPUT_BYTES // 2  # what is shown of either end
_LINE_NEAR = 512  # bytes within which an end is cut at a line rather than anywhere
_CHARACTER_BYTES = 4
_CONTINUATION = range(0x80, 0xC0)
_PAGE_BYTES = range(1, (1 << 20) + 1)
_PATTERN_CHARACTERS = 4096


class Shown:
    """The beginning and the end of output that passes by, in bounded memory."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail = bytearray()
        self._total = 0

    def add(self, data: bytes) -> None:
        """Take in what was written."""
        self._total += len(data)
        room = _END_BYTES - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data[-_END_BYTES:]
        if len(self._tail) > 2 * _END_BYTES:
            del self._tail[:-_END_BYTES]

    def ends(self) -> tuple[bytes, bytes]:
        """Head and tail; all in the head if that is all there is."""
        if self._total <= SHOWN_OUTPUT_BYTES:
            return bytes(self._head + self._tail), b""
        return cut_head(bytes(self._head)), cut_tail(bytes(self._tail[-_END_BYTES:]))


def cut_head(data: bytes) -> bytes:
    """The beginning of longer output, without the part of a line at its end if that is short, or of a character."""
    line = data.rfind(b"\n", len(data) - _LINE_NEAR if len(data) > _LINE_NEAR else 0)
    if line >= 0:
        return data[: line + 1]
    for back in range(1, min(_CHARACTER_BYTES, len(data)) + 1):
        byte = data[-back]
        if byte not in _CONTINUATION:
            return data[:-back] if _character_length(byte) > back else data
    return data


def cut_tail(data: bytes) -> bytes:
    """The end of longer output, without the part of a line at its beginning if that is short, or of a character."""
    line = data.find(b"\n", 0, _LINE_NEAR)
    if line >= 0:
        return data[line + 1 :]
    for skipped in range(min(_CHARACTER_BYTES, len(data))):
        if data[skipped] not in _CONTINUATION:
            return data[skipped:]
    return data


async def shown(guest: GuestClient, exec_id: str) -> tuple[bytes, bytes]:
    """Head and tail of output that the guest keeps; empty where it keeps it no longer."""
    try:
        page = await read_page(guest, exec_id, OutputQuery(0, SHOWN_OUTPUT_BYTES))
        if page.total_bytes <= SHOWN_OUTPUT_BYTES:
            return page.data, b""
        last = await read_page(guest, exec_id, OutputQuery(page.total_bytes - _END_BYTES, _END_BYTES))
    except NotFound:
        return b"", b""
    return cut_head(page.data[:_END_BYTES]), cut_tail(last.data)


async def read_page(guest: GuestClient, exec_id: str, query: OutputQuery) -> OutputPage:
    """A page of output. Raises `InvalidRequest`, `NotFound` (`output_gone`), `GuestFailed`."""
    check_query(query)
    tool = tools.OutputTool(exec_id, query.offset, query.limit, query.grep)
    content, data = split_head(await tools.run(guest, tool, most=query.limit))
    head = decoded(_PageHead, content)
    if len(data) > query.limit:
        raise ProtocolViolation("more output than was asked for")
    return OutputPage(
        exec_id=exec_id,
        offset=bounded(head.offset, SIZES),
        data=data,
        total_bytes=bounded(head.total_bytes, SIZES),
        running=head.running,
        next_offset=None if head.next_offset is None else bounded(head.next_offset, SIZES),
    )


def check_query(query: OutputQuery) -> None:
    """Refuse what cannot be asked."""
    check_range("offset", query.offset, SIZES)
    check_range("limit", query.limit, _PAGE_BYTES)
    if query.grep is not None and not 0 < len(query.grep) <= _PATTERN_CHARACTERS:
        raise InvalidRequest("bad_pattern", f"a pattern has 1 to {_PATTERN_CHARACTERS} characters")


@dataclass(frozen=True)
class _PageHead:
    offset: int
    next_offset: int | None
    total_bytes: int
    running: bool


def _character_length(first: int) -> int:
    """Bytes of the UTF-8 character that begins with this byte."""
    return 1 if first < 0xC0 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
