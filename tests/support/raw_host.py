"""The host's end of a session with an agent, byte by byte: for tests that say what no client of ours would say."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from pyro_mcp.guest.client import OpenChannel
from pyro_mcp.guest.preamble import GENERATION, NONCE_BYTES
from tests.support.fake_agent import MESSAGE, message, packet
from tests.support.pace import patience
from tests.support.wire import ACK, DATA, FIN, RST, SYN, WINDOW_UPDATE, MuxFrame, Wire

_ANSWER_SECONDS = patience(10)
# As the protocol says: an agent that took a hello for the rest of a broken session answers on a channel opened anew.
_HELLO_SECONDS = patience(2)
_REOPEN_SECONDS = 0.1
_FRAME_HEADER = 5


class RawHost:
    """One channel to an agent; a test may send anything."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._wire = Wire(reader, writer)
        self._told: dict[int, bytearray] = {}
        self.ended: set[int] = set()  # streams that the agent has closed or reset
        self.reset: set[int] = set()  # those of them that it has reset

    def send(self, *parts: bytes) -> None:
        """Send bytes as they are."""
        self._wire.writer.write(b"".join(parts))

    async def packet(self, kind: bytes, nonce: bytes) -> dict[str, Any]:
        """The payload of the agent's next packet of that kind and nonce; whatever comes before is passed over."""
        async with asyncio.timeout(_ANSWER_SECONDS):
            await _read_past(self._reader, b"PYRO" + kind + nonce)
            length = int.from_bytes(await self._reader.readexactly(4), "big")
            return dict(json.loads(await self._reader.readexactly(length)))

    async def greet(self, nonce: bytes) -> dict[str, Any]:
        """Begin a session; the agent's reply."""
        self.send(packet(b"H", nonce, {"generation": GENERATION}))
        reply = await self.packet(b"R", nonce)
        self.send(packet(b"S", nonce, {}))
        await self.packet(b"A", nonce)
        return reply

    def open(self, stream: int, payload: bytes = b"") -> None:
        """Open a stream with this payload."""
        self.data(stream, payload, SYN)

    def data(self, stream: int, payload: bytes, flags: int = 0) -> None:
        """Send on a stream, whatever its window."""
        self._wire.data(stream, payload, flags)

    def widen(self, stream: int, count: int) -> None:
        """Let the agent send that many bytes more."""
        self._wire.send(WINDOW_UPDATE, 0, stream, count)

    def drop(self, stream: int) -> None:
        """Reset a stream."""
        self.data(stream, b"", RST)

    async def told(self, stream: int, count: int) -> bytes:
        """The next bytes that the agent sends on a stream; what it sends on others is kept for later."""
        async with asyncio.timeout(_ANSWER_SECONDS):
            while len(self._told.get(stream, b"")) < count:
                self._take(await self._wire.receive())
        waiting = self._told[stream]
        data = bytes(waiting[:count])
        del waiting[:count]
        return data

    def waiting(self, stream: int) -> int:
        """How many bytes of a stream have come and not been asked for."""
        return len(self._told.get(stream, b""))

    async def frame(self, stream: int) -> tuple[int, bytes]:
        """The next frame on a stream: its tag and payload."""
        header = await self.told(stream, _FRAME_HEADER)
        return header[0], await self.told(stream, int.from_bytes(header[1:], "big"))

    async def message(self, stream: int) -> dict[str, Any]:
        """The next frame on a stream, which must be a message."""
        tag, payload = await self.frame(stream)
        assert tag == MESSAGE
        return dict(json.loads(payload))

    async def ask(self, stream: int, **content: object) -> dict[str, Any]:
        """One request on a new stream, and the first message that comes of it."""
        self.open(stream, message(**content))
        return await self.message(stream)

    async def end_of(self, stream: int) -> None:
        """Wait until the agent has closed or reset a stream."""
        async with asyncio.timeout(_ANSWER_SECONDS):
            while stream not in self.ended:
                self._take(await self._wire.receive())

    def _take(self, frame: MuxFrame) -> None:
        assert frame.stream, f"{frame} of no stream"
        assert frame.flags & ~(ACK | FIN | RST) == 0, f"{frame} of an agent"
        if frame.kind == DATA:
            self._told.setdefault(frame.stream, bytearray()).extend(frame.payload)
        if frame.flags & (FIN | RST):
            self.ended.add(frame.stream)
        if frame.flags & RST:
            self.reset.add(frame.stream)


@asynccontextmanager
async def raw_channel(open_channel: OpenChannel) -> AsyncIterator[RawHost]:
    """A channel without a session, which is closed at the end."""
    reader, writer = await asyncio.open_connection(sock=await open_channel())
    try:
        yield RawHost(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)  # which closes it only now


@asynccontextmanager
async def raw_session(open_channel: OpenChannel) -> AsyncIterator[RawHost]:
    """A session; the channel is opened anew where the hello stays without an answer."""
    async with AsyncExitStack() as stack:
        async with asyncio.timeout(_ANSWER_SECONDS):
            while (host := await _begun(stack, open_channel)) is None:  # noqa: ASYNC110  (the agent rings no bell)
                await asyncio.sleep(_REOPEN_SECONDS)
        yield host


async def _begun(stack: AsyncExitStack, open_channel: OpenChannel) -> RawHost | None:
    with contextlib.suppress(TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        async with AsyncExitStack() as attempt:
            host = await attempt.enter_async_context(raw_channel(open_channel))
            async with asyncio.timeout(_HELLO_SECONDS):
                await host.greet(os.urandom(NONCE_BYTES))
            stack.push_async_exit(attempt.pop_all().__aexit__)
            return host
    return None


async def _read_past(reader: asyncio.StreamReader, wanted: bytes) -> None:
    while True:
        try:
            await reader.readuntil(wanted)
        except asyncio.LimitOverrunError as overrun:
            await reader.readexactly(overrun.consumed)
        else:
            return
