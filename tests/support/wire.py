"""One end of a session's multiplexer, frame by frame: yamux written a second time, for tests.

It sends whatever a test tells it to, right or wrong, and hands over what the other end sent, undigested.
"""

import asyncio
import struct
from dataclasses import dataclass
from typing import cast

DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
_HEADER = struct.Struct(">BBHII")


@dataclass(frozen=True)
class MuxFrame:
    """One frame of the multiplexer; `length` is the payload's for data, else the value that the header carries."""

    kind: int
    flags: int
    stream: int
    length: int
    payload: bytes = b""


def mux_frame(kind: int, flags: int, stream: int, length: int, payload: bytes = b"", *, version: int = 0) -> bytes:
    """A frame as bytes, however wrong."""
    return _HEADER.pack(version, kind, flags, stream, length) + payload


class Wire:
    """Reads and writes frames on one end of a channel, as a rule the agent's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def receive(self) -> MuxFrame:
        """The other end's next frame. Raises `IncompleteReadError` when the channel has been closed."""
        version, kind, flags, stream, length = _HEADER.unpack(await self.reader.readexactly(_HEADER.size))
        assert version == 0
        payload = await self.reader.readexactly(length) if kind == DATA else b""
        return MuxFrame(kind, flags, stream, length, payload)

    def send(self, kind: int, flags: int, stream: int, length: int, payload: bytes = b"") -> None:
        """Queue a frame; nothing is checked."""
        self.writer.write(mux_frame(kind, flags, stream, length, payload))

    def data(self, stream: int, payload: bytes, flags: int = 0) -> None:
        """Queue a data frame."""
        self.send(DATA, flags, stream, len(payload), payload)

    def stop_reading(self) -> None:
        """Leave what the host sends where it is, until its channel is full."""
        cast("asyncio.Transport", self.writer.transport).pause_reading()

    def read_again(self) -> None:
        """Go on after `stop_reading`."""
        cast("asyncio.Transport", self.writer.transport).resume_reading()

    async def close(self) -> None:
        """Close the channel at once."""
        self.writer.transport.abort()
        await asyncio.sleep(0)
