"""Frames on one stream of a guest session: a tag, a length, a payload (protocol/README.md, "Frames on a stream")."""

import json
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from pyro_mcp.guest.json_text import parsed
from pyro_mcp.guest.violation import ProtocolViolation

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_PAYLOAD = 1 << 20  # bytes
_HEADER = struct.Struct(">BI")


class Tag(IntEnum):
    """What a frame carries. The first three are the numbers of the file descriptors."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    MESSAGE = 3


@dataclass(frozen=True)
class Output:
    """Some bytes that a command wrote; one frame may arrive as several of these."""

    tag: Tag
    data: bytes


@dataclass(frozen=True)
class Message:
    """The content of a message frame, decoded from JSON but not yet checked."""

    content: dict[str, object]


def frame(tag: Tag, payload: bytes) -> bytes:
    """One frame as bytes; the payload may be at most `MAX_PAYLOAD` bytes."""
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a payload of {len(payload)} bytes does not fit in a frame")
    return _HEADER.pack(tag, len(payload)) + payload


def message_frame(content: dict[str, object]) -> bytes:
    """A message as one frame."""
    return frame(Tag.MESSAGE, json.dumps(content, separators=(",", ":")).encode())


class FrameDecoder:
    """Cuts the bytes of a stream into frames, holding back no more than one incomplete message.

    Output is handed on as it arrives. Everything here comes from the guest, so a wrong tag or length raises
    `ProtocolViolation` before anything is stored for it.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._tag: Tag | None = None
        self._left = 0

    def feed(self, data: bytes) -> "Iterator[Output | Message]":
        """Decode what has arrived; must be read to its end before the next call."""
        self._buffer += data
        while self._tag is not None or self._take_header():
            if self._tag is Tag.MESSAGE:
                if len(self._buffer) < self._left:
                    return
                yield Message(_decode_json(self._take(self._left)))
            else:
                if not self._buffer and self._left:
                    return
                yield Output(self._tag or Tag.STDIN, self._take(min(self._left, len(self._buffer))))
            if self._left == 0:
                self._tag = None

    @property
    def inside_frame(self) -> bool:
        """Whether the stream stopped in the middle of a frame."""
        return self._tag is not None or bool(self._buffer)

    def _take_header(self) -> bool:
        if len(self._buffer) < _HEADER.size:
            return False
        tag, length = _HEADER.unpack_from(self._buffer)
        if tag not in (Tag.STDOUT, Tag.STDERR, Tag.MESSAGE):
            raise ProtocolViolation(f"frame with the unknown tag {tag}")
        if length > MAX_PAYLOAD:
            raise ProtocolViolation(f"frame of {length} bytes")
        del self._buffer[: _HEADER.size]
        self._tag, self._left = Tag(tag), length
        return True

    def _take(self, count: int) -> bytes:
        taken = bytes(memoryview(self._buffer)[:count])
        del self._buffer[:count]
        self._left -= count
        return taken


def _decode_json(payload: bytes) -> dict[str, object]:
    try:
        content = parsed(payload)
    except ValueError as error:
        raise ProtocolViolation("message that is not JSON") from error
    if not isinstance(content, dict) or not isinstance(content.get("type"), str):
        raise ProtocolViolation("message without a type")
    return content
