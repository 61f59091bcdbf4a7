"""A stand-in for the guest's agent at the other end of a socket pair, for tests of the host's guest client.

It speaks the real protocol (preamble, yamux, frames, messages) with code of its own, keeps to the windows that it was
given and notes where the host does not. What it does with a request is up to the test.
"""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from pyro_mcp.guest.client import OpenChannel
from pyro_mcp.guest.preamble import GENERATION
from tests.support.wire import ACK, DATA, FIN, GO_AWAY, PING, RST, SYN, WINDOW_UPDATE, Wire

STDIN, STDOUT, STDERR, MESSAGE = range(4)
INITIAL_WINDOW = 256 * 1024
BOOT_ID = "3f0c1c52-6d55-4a8e-9d8e-0d2f9a8f0b11"
_FRAME = struct.Struct(">BI")
_PACKET = struct.Struct(">4sc16sI")


def frame(tag: int, payload: bytes) -> bytes:
    """A frame on a stream."""
    return _FRAME.pack(tag, len(payload)) + payload


def message(**content: object) -> bytes:
    """A message frame."""
    return frame(MESSAGE, json.dumps(content).encode())


def packet(kind: bytes, nonce: bytes, payload: object, magic: bytes = b"PYRO") -> bytes:
    """A packet of the preamble."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return _PACKET.pack(magic, kind, nonce, len(body)) + body


def reply(nonce: bytes, **changes: object) -> bytes:
    """The agent's answer to a hello, with some fields changed."""
    return packet(b"R", nonce, {"generation": GENERATION, "agent_version": "0.1.0", "boot_id": BOOT_ID, **changes})


async def read_packet(reader: asyncio.StreamReader) -> tuple[bytes, bytes, Any]:
    """The host's next packet: kind, nonce, payload."""
    magic, kind, nonce, length = _PACKET.unpack(await reader.readexactly(_PACKET.size))
    assert magic == b"PYRO"
    return kind, nonce, json.loads(await reader.readexactly(length))


class AgentStream:
    """One stream as the agent sees it."""

    def __init__(self, agent: "FakeAgent", number: int) -> None:
        self._agent = agent
        self.id = number
        self.receivable = INITIAL_WINDOW
        self.sendable = INITIAL_WINDOW
        self.received = bytearray()
        self.finished = False
        self.was_reset = asyncio.Event()
        self._changed = asyncio.Event()

    async def frames(self) -> AsyncIterator[tuple[int, bytes]]:
        """What the host sends, until it finishes or drops the stream; taking it gives the window back."""
        while True:
            while len(self.received) >= _FRAME.size:
                tag, length = _FRAME.unpack_from(self.received)
                if len(self.received) < _FRAME.size + length:
                    break
                payload = bytes(self.received[_FRAME.size : _FRAME.size + length])
                del self.received[: _FRAME.size + length]
                yield tag, payload
            if self.finished or self.was_reset.is_set():
                return
            await self._wait()

    async def request(self) -> dict[str, Any]:
        """The first message of the stream."""
        async for tag, payload in self.frames():
            assert tag == MESSAGE
            content = json.loads(payload)
            assert isinstance(content, dict)
            return content
        raise AssertionError("the host opened a stream and asked nothing")

    async def send(self, data: bytes) -> None:
        """Send bytes within the window that the host gave; ends early if the host drops the stream."""
        while data and not self.was_reset.is_set():
            if self.sendable == 0:
                await self._wait()
                continue
            part, data = data[: min(self.sendable, 65536)], data[min(self.sendable, 65536) :]
            self.sendable -= len(part)
            self._agent.wire.data(self.id, part)
            await self._agent.wire.writer.drain()

    async def say(self, **content: object) -> None:
        """Send a message."""
        await self.send(message(**content))

    def finish(self) -> None:
        """Nothing more follows."""
        self._agent.wire.send(DATA, FIN, self.id, 0)

    def drop(self) -> None:
        """Reset the stream."""
        self._agent.wire.send(WINDOW_UPDATE, RST, self.id, 0)

    def take(self, kind: int, flags: int, length: int, payload: bytes) -> None:
        """What the session hands to the stream."""
        if kind == DATA:
            if len(payload) > self.receivable:
                self._agent.overruns.append(self.id)
            # The whole window is given back at once: this agent holds any amount.
            self.received += payload
            if payload and self._agent.gives_window_back:
                self._agent.wire.send(WINDOW_UPDATE, 0, self.id, len(payload))
            else:
                self.receivable -= len(payload)
        else:
            self.sendable += length
        if flags & RST:
            self.was_reset.set()
        self.finished = self.finished or bool(flags & FIN)
        self._changed.set()

    def end(self) -> None:
        """The session is over."""
        self.was_reset.set()
        self._changed.set()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()


Handler = Callable[[AgentStream], Awaitable[None]]


class FakeAgent:
    """A whole session: the preamble, then every stream handed to `handler`.

    With `told`, where what hosts tell it goes, its guest waits until one of them has said what machine it is.
    """

    def __init__(self, wire: Wire, handler: Handler, told: list[tuple[bytes, Any]] | None = None) -> None:
        self.wire = wire
        self.overruns: list[int] = []
        self.gives_window_back = True
        self.streams: dict[int, AgentStream] = {}
        self.pongs: asyncio.Queue[int] = asyncio.Queue()
        self.new_stream: asyncio.Queue[AgentStream] = asyncio.Queue()
        self._handler = handler
        self._told = told

    async def greet(self) -> None:
        """Answer the host's hello and start the multiplexer."""
        kind, nonce, _ = await read_packet(self.wire.reader)
        assert kind == b"H"
        told = [(b"S", {})] if self._told is None else self._told
        waits = b"S" not in [kind for kind, _ in told]
        self.wire.writer.write(reply(nonce, boot_id=None) if waits else reply(nonce))
        while kind != b"S":
            kind, _, payload = await read_packet(self.wire.reader)
            told.append((kind, payload))
            if kind == b"P":
                self.wire.writer.write(packet(b"D", nonce, {}))
        self.wire.writer.write(packet(b"A", nonce, {}))

    async def serve(self) -> None:
        """Run the session until the host closes the channel."""
        try:
            await self.greet()
            async with asyncio.TaskGroup() as handling:
                try:
                    while True:
                        self._take(await self.wire.receive(), handling)
                finally:
                    for stream in self.streams.values():
                        stream.end()
        except* (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            # A handler that failed must not leave the host waiting.
            self.wire.writer.transport.abort()

    def _take(self, taken: Any, handling: asyncio.TaskGroup) -> None:
        if taken.kind == PING:
            if taken.flags & ACK:
                self.pongs.put_nowait(taken.length)
            return
        if taken.kind == GO_AWAY:
            return
        if taken.flags & SYN:
            stream = self.streams[taken.stream] = AgentStream(self, taken.stream)
            self.wire.send(WINDOW_UPDATE, ACK, taken.stream, 0)
            self.new_stream.put_nowait(stream)
            handling.create_task(self._handle(stream))
        self.streams[taken.stream].take(taken.kind, taken.flags, taken.length, taken.payload)

    async def _handle(self, stream: AgentStream) -> None:
        with contextlib.suppress(ConnectionError):
            await self._handler(stream)


@contextlib.contextmanager
def channel() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a channel: the host's and the agent's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def opened(end: socket.socket) -> OpenChannel:
    """How a client gets at an end that is open already."""

    async def open_channel() -> socket.socket:
        return end

    return open_channel


@asynccontextmanager
async def wire_over(end: socket.socket) -> AsyncIterator[Wire]:
    """Frames over the agent's end of a channel."""
    reader, writer = await asyncio.open_unix_connection(sock=end)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


@asynccontextmanager
async def serving(end: socket.socket, handler: Handler) -> AsyncIterator[FakeAgent]:
    """A fake agent at work on its end of a channel; a failure in its handlers is raised at the end."""
    async with wire_over(end) as wire:
        agent = FakeAgent(wire, handler)
        task = asyncio.create_task(agent.serve())
        try:
            yield agent
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
