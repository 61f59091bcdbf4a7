"""Lines of JSON out of a hostile guest, cut from a stream that may hold other bytes between them."""

from typing import TypeVar

from pyro_mcp import models
from pyro_mcp.errors import InvalidRequest
from pyro_mcp.guest.json_text import parsed
from pyro_mcp.guest.violation import ProtocolViolation

T = TypeVar("T")
_LINE_BYTES = 64 * 1024  # two paths of 4 KiB, escaped at worst


class LineReader:
    """Bytes in, lines and raw stretches out; holds no more than what was fed and one incomplete line."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0

    def feed(self, data: bytes) -> None:
        """Take bytes in; everything that can be taken out should be, before the next call."""
        del self._buffer[: self._at]
        self._at = 0
        self._buffer += data

    def line(self) -> bytes | None:
        """The next line without its end, or None while it is not complete."""
        end = self._buffer.find(b"\n", self._at, self._at + _LINE_BYTES)
        if end < 0:
            if len(self._buffer) - self._at >= _LINE_BYTES:
                raise ProtocolViolation(f"a line of more than {_LINE_BYTES} bytes from a tool")
            return None
        line = bytes(memoryview(self._buffer)[self._at : end])
        self._at = end + 1
        return line

    def raw(self, most: int) -> bytes:
        """Up to that many bytes of what is there."""
        taken = bytes(memoryview(self._buffer)[self._at : self._at + most])
        self._at += len(taken)
        return taken

    @property
    def empty(self) -> bool:
        """Whether everything was taken out."""
        return self._at == len(self._buffer)


def json_object(line: bytes) -> dict[str, object]:
    """A line as a JSON object, or `ProtocolViolation`."""
    try:
        content = parsed(line)
    except ValueError as error:
        raise ProtocolViolation("a tool's answer that is not JSON") from error
    if not isinstance(content, dict):
        raise ProtocolViolation("a tool's answer that is no JSON object")
    return content


def decoded(kind: type[T], content: dict[str, object]) -> T:
    """A JSON object as a dataclass, or `ProtocolViolation`."""
    try:
        return models.decode(kind, content)
    except InvalidRequest as error:
        raise ProtocolViolation(f"a malformed answer of a tool: {error.message[:200]}") from error


def split_head(answer: bytes) -> tuple[dict[str, object], bytes]:
    """An answer of one JSON line and raw bytes."""
    line, separator, rest = answer.partition(b"\n")
    if not separator or len(line) > _LINE_BYTES:
        raise ProtocolViolation("a tool's answer without its first line")
    return json_object(line), rest


def bounded(number: int, allowed: range) -> int:
    """A number of the guest, or `ProtocolViolation` where it is out of range."""
    if number not in allowed:
        raise ProtocolViolation("a number out of range in a tool's answer")
    return number
