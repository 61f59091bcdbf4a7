"""The host's end of yamux: many streams with flow control over one byte channel.

Source of the format: the yamux specification (github.com/hashicorp/yamux, spec.md), version 0. We are its client: our
stream ids are odd, and in protocol generation 1 the guest opens no stream of its own. Whatever arrives comes from a
hostile guest: no stream holds more than its window, and nothing is stored for a stream that is not open.
"""

import asyncio
import struct
from collections import deque
from enum import IntEnum, IntFlag

from pyro_mcp.errors import GuestFailed
from pyro_mcp.guest.violation import ProtocolViolation

_HEADER = struct.Struct(">BBHII")  # version, type, flags, stream id, length
_INITIAL_WINDOW = 256 * 1024
RECEIVE_WINDOW = 1 << 20  # bytes that a stream may have under way to us
_MAX_SEND = 64 * 1024  # bytes in one data frame of ours
_MAX_STREAM_ID = 2**32 - 1
# A guest may cut its window into single bytes, and each object costs far more than that: small data is put together.
_SMALL_BYTES = 4 * 1024
_MERGED_BYTES = 64 * 1024
_FRAMES_AT_ONCE = 256  # before other tasks of the daemon get their turn


class _Kind(IntEnum):
    DATA = 0
    WINDOW_UPDATE = 1
    PING = 2
    GO_AWAY = 3


class _Flag(IntFlag):
    NONE = 0
    SYN = 1
    ACK = 2
    FIN = 4
    RST = 8


class StreamReset(GuestFailed):
    """The other side dropped the stream, or the whole session ended."""

    def __init__(self, why: str) -> None:
        super().__init__(
            "guest_gone",
            f"the guest went away: {why}",
            "try again; a workspace boots by itself: pyro workspace status W",
        )


class MuxStream:
    """One stream of a session: ordered bytes each way, each with its own window."""

    def __init__(self, session: "MuxSession", stream_id: int) -> None:
        self._session = session
        self.id = stream_id
        self._chunks: deque[bytes | bytearray] = deque()  # only those of small data can grow
        self._receivable = RECEIVE_WINDOW  # what the guest may still send
        self._consumed = 0  # read by us, but not yet given back to the guest's window
        self._sendable = _INITIAL_WINDOW
        self._got_fin = False
        self._sent_fin = False
        self._failure: GuestFailed | None = None
        self._changed = asyncio.Event()

    async def read(self) -> bytes:
        """The next bytes, or b"" at the end of the stream. Raises `StreamReset`."""
        while not self._chunks:
            if self._failure is not None:
                raise self._failure
            if self._got_fin:
                return b""
            await self._wait()
        chunk = self._chunks.popleft()
        self._consumed += len(chunk)
        if self._consumed >= RECEIVE_WINDOW // 2 and not self._got_fin and self._failure is None:
            self._receivable += self._consumed
            self._session.send(_Kind.WINDOW_UPDATE, _Flag.NONE, self.id, self._consumed)
            self._consumed = 0
        return bytes(chunk)  # no copy of what is `bytes` already

    async def write(self, data: bytes) -> None:
        """Send bytes; waits while the guest's window or the channel is full. Raises `StreamReset`."""
        view = memoryview(data)
        while view:
            if self._failure is not None:
                raise self._failure
            if self._sendable == 0:
                await self._wait()
                continue
            part = view[: min(len(view), self._sendable, _MAX_SEND)]
            self._sendable -= len(part)
            self._session.send(_Kind.DATA, _Flag.NONE, self.id, len(part), part)
            view = view[len(part) :]
            await self._session.drain()

    def close_write(self) -> None:
        """Say that nothing more follows."""
        if not self._sent_fin and self._failure is None:
            self._sent_fin = True
            self._session.send(_Kind.DATA, _Flag.FIN, self.id, 0)
            self._session.forget_if_done(self)

    def reset(self) -> None:
        """Drop the stream in both directions; does nothing where it has ended."""
        if self._failure is None and not self.done:
            self.fail(StreamReset("the stream was dropped"))
            self._session.send(_Kind.DATA, _Flag.RST, self.id, 0)
        self._session.forget(self)

    @property
    def done(self) -> bool:
        """Whether both directions have ended."""
        return self._got_fin and self._sent_fin

    # What the session tells its streams.

    def feed(self, data: bytes) -> None:
        if len(data) > self._receivable:
            raise ProtocolViolation("more data than the stream's window allows")
        if self._got_fin and data:
            raise ProtocolViolation("data after the stream's end")
        if not data:
            return  # it would look like the end, and any number of them fits into the window
        self._receivable -= len(data)
        self._keep(data)
        self._changed.set()

    def widen(self, delta: int) -> None:
        self._sendable += delta
        self._changed.set()

    def finish(self) -> None:
        self._got_fin = True
        self._changed.set()
        self._session.forget_if_done(self)

    def fail(self, failure: GuestFailed) -> None:
        if self._failure is None:
            self._failure = failure
        self._changed.set()

    def _keep(self, data: bytes) -> None:
        if len(data) >= _SMALL_BYTES:
            self._chunks.append(data)
            return
        last = self._chunks[-1] if self._chunks else b""
        if isinstance(last, bytearray) and len(last) < _MERGED_BYTES:
            last += data
        else:
            self._chunks.append(bytearray(data))

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()


class MuxSession:
    """All streams of one channel. `serve` must run as a task for as long as the session is wanted."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._streams: dict[int, MuxStream] = {}
        self._next_id = 1
        self._ended: GuestFailed | None = None
        self.closed = asyncio.Event()

    @property
    def ended(self) -> str | None:
        """Why the session ended, or None while it lives."""
        return None if self._ended is None else self._ended.message

    def open_stream(self) -> MuxStream:
        """A new stream. Raises `StreamReset` when the session has ended."""
        if self._ended is not None:
            raise self._ended
        if self._next_id > _MAX_STREAM_ID:
            raise StreamReset("the session has used up its stream numbers")
        stream = MuxStream(self, self._next_id)
        self._next_id += 2
        self._streams[stream.id] = stream
        # The SYN rides on the update that widens the window from the protocol's default to ours.
        self.send(_Kind.WINDOW_UPDATE, _Flag.SYN, stream.id, RECEIVE_WINDOW - _INITIAL_WINDOW)
        return stream

    async def serve(self) -> None:
        """Take in what the guest sends until the channel ends or the guest breaks the rules; never raises for those."""
        failure: GuestFailed = StreamReset("the session was closed")
        try:
            while True:
                # Frames that have arrived are taken without waiting, and a guest may send nothing but tiny ones.
                await asyncio.sleep(0)
                for _ in range(_FRAMES_AT_ONCE):
                    await self._take_frame()
        except (asyncio.IncompleteReadError, ConnectionError, StreamReset):
            failure = StreamReset("its channel was closed")
        except ProtocolViolation as error:
            failure = error
        finally:
            self._end(failure)

    def close(self) -> None:
        """End the session, if nothing else has yet."""
        if self._ended is None:
            self._end(StreamReset("the session was closed"))

    async def _take_frame(self) -> None:
        header = await self._reader.readexactly(_HEADER.size)
        version, kind, flags, stream_id, length = _HEADER.unpack(header)
        if version != 0 or kind > _Kind.GO_AWAY or flags > 15:
            raise ProtocolViolation("a malformed multiplexer header")
        if kind == _Kind.PING:
            await self._answer_ping(flags, length)
        elif kind == _Kind.GO_AWAY:
            raise ConnectionError
        else:
            await self._take_stream_frame(_Kind(kind), _Flag(flags), stream_id, length)

    async def _take_stream_frame(self, kind: _Kind, flags: _Flag, stream_id: int, length: int) -> None:
        if flags & _Flag.SYN or stream_id % 2 == 0 or stream_id >= self._next_id:
            raise ProtocolViolation("a stream that we did not open")
        data = b""
        if kind is _Kind.DATA and length:
            if length > RECEIVE_WINDOW:
                raise ProtocolViolation("more data than any window allows")
            data = await self._reader.readexactly(length)
        stream = self._streams.get(stream_id)
        if stream is None:
            return  # sent before the guest knew that we had dropped it
        if kind is _Kind.DATA:
            stream.feed(data)
        else:
            stream.widen(length)
        if flags & _Flag.RST:
            stream.fail(StreamReset("it dropped the stream"))
            self.forget(stream)
        elif flags & _Flag.FIN:
            stream.finish()

    async def _answer_ping(self, flags: int, value: int) -> None:
        if flags & _Flag.SYN:
            self.send(_Kind.PING, _Flag.ACK, 0, value)
            # Not reading on until the answer is out: a guest that floods pings only slows itself.
            await self.drain()

    def send(self, kind: _Kind, flags: _Flag, stream_id: int, length: int, payload: memoryview | bytes = b"") -> None:
        if self._ended is None:
            header = _HEADER.pack(0, kind, flags, stream_id, length)
            self._writer.write(header + payload if payload else header)

    async def drain(self) -> None:
        """Wait until the channel takes more. Raises `StreamReset` when it is gone."""
        try:
            await self._writer.drain()
        except ConnectionError as error:
            raise StreamReset("its channel was closed") from error

    def forget(self, stream: MuxStream) -> None:
        self._streams.pop(stream.id, None)

    def forget_if_done(self, stream: MuxStream) -> None:
        if stream.done:
            self.forget(stream)

    def _end(self, failure: GuestFailed) -> None:
        self._ended = failure
        for stream in list(self._streams.values()):
            stream.fail(failure)
        self._streams.clear()
        self.closed.set()
        # Not `close`, which lets what is unsent drain: where it drains before somebody aborts the transport, asyncio's
        # own `abort` fails on a transport that has forgotten its loop.
        self._writer.transport.abort()
