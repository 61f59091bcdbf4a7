"""A session of the multiplexer and the guest's end of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pyro_mcp.guest.mux import RECEIVE_WINDOW, MuxSession, MuxStream
from tests.support.fake_agent import INITIAL_WINDOW, channel, wire_over
from tests.support.wire import ACK, PING, SYN, WINDOW_UPDATE, MuxFrame, Wire


@dataclass
class Pair:
    """A session under test and the guest's end of it."""

    session: MuxSession
    wire: Wire
    serving: "asyncio.Task[None]"

    async def open(self) -> MuxStream:
        """A stream that the guest has seen and accepted."""
        stream = self.session.open_stream()
        opened = await self.wire.receive()
        assert opened == MuxFrame(WINDOW_UPDATE, SYN, stream.id, RECEIVE_WINDOW - INITIAL_WINDOW)
        self.wire.send(WINDOW_UPDATE, ACK, stream.id, 0)
        return stream

    async def ended(self) -> str:
        """Why the session ended; it must."""
        async with asyncio.timeout(30):
            await self.serving
        assert self.session.ended is not None
        return self.session.ended

    async def settled(self) -> None:
        """Everything that the guest has sent so far has been dealt with: it is answered in order."""
        self.wire.send(PING, SYN, 0, 77)
        while (await self.wire.receive()).kind != PING:
            pass


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    """A new session."""
    with channel() as (ours, theirs):
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=1 << 20)
        async with wire_over(theirs) as wire:
            session = MuxSession(reader, writer)
            serving = asyncio.create_task(session.serve())
            try:
                yield Pair(session, wire, serving)
            finally:
                serving.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await serving
                writer.transport.abort()
                await asyncio.sleep(0)


async def flood(wire: Wire, data: bytes) -> None:
    """Send these bytes again and again."""
    while True:
        wire.writer.write(data)
        await wire.writer.drain()


async def read_to_end(stream: MuxStream) -> bytes:
    """All that the guest sends on a stream."""
    received = b""
    while part := await stream.read():
        received += part
    return received
