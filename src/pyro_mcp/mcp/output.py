"""Bytes of commands and files as text for a model: lossy where they are not UTF-8, cut where they are too long."""

import codecs

from pyro_mcp.workspace_models import SHOWN_OUTPUT_BYTES

_HEAD_BYTES = 2 * 1024  # what is left of long output's beginning; the end tells more, as a rule


def text(data: bytes) -> str:
    """Bytes as text, with U+FFFD for what is no UTF-8; NUL, which some readers of JSON stop at, becomes its picture."""
    return data.decode("utf-8", "replace").replace("\0", "\u2400")


def whole_characters(data: bytes) -> bytes:
    """The data without the beginning of a character that it ends in."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(data)
    pending: int = len(decoder.getstate()[0])
    return data[: len(data) - pending]


def without_rest_of_character(data: bytes) -> bytes:
    """The data without the rest of a character that was cut off before it."""
    skipped = 0
    while skipped < min(3, len(data)) and data[skipped] & 0xC0 == 0x80:
        skipped += 1
    return data[skipped:]


def whole_lines(data: bytes) -> bytes:
    """Data that was cut off somewhere, up to the end of its last line if that leaves at least half of it."""
    at = data.rfind(b"\n") + 1
    return data[:at] if at * 2 >= len(data) else whole_characters(data)


def head_and_tail(head: bytes, tail: bytes, total: int, rest: str) -> str:
    """Output whose middle is left out; `rest` says how to read that, with {offset} for where it begins."""
    if total <= len(head) + len(tail):
        return text(head + tail)
    head, tail = whole_characters(head), without_rest_of_character(tail)
    note = f"[{total - len(head) - len(tail)} bytes left out{rest.format(offset=len(head))}]"
    return f"{text(head)}\n{note}\n{text(tail)}"


class Shown:
    """Keeps the beginning and the end of output as it comes, and counts the rest."""

    def __init__(self, limit: int = SHOWN_OUTPUT_BYTES) -> None:
        self._limit = limit
        self._head = bytearray()
        self._tail = bytearray()
        self.total = 0

    def add(self, data: bytes) -> None:
        """Take more output."""
        self.total += len(data)
        room = min(_HEAD_BYTES, self._limit) - len(self._head)
        self._head += data[: max(0, room)]
        self._tail += data[max(0, room) :]
        if len(self._tail) > 2 * self._limit:
            del self._tail[: -self._limit]

    def text(self, limit: int) -> str:
        """The output in at most `limit` bytes, a note about what is left out aside."""
        if self.total <= limit and self.total <= len(self._head) + len(self._tail):
            return text(bytes(self._head + self._tail))
        head = bytes(self._head[:limit])
        tail = bytes(self._tail[len(self._tail) - (limit - len(head)) :]) if limit > len(head) else b""
        return head_and_tail(head, tail, self.total, "")
