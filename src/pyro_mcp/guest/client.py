"""Talking to the agent of one guest: commands, tools, pings, power-off."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from pyro_mcp import tasks
from pyro_mcp.errors import GuestFailed
from pyro_mcp.guest import preamble
from pyro_mcp.guest.frames import FrameDecoder, Output, Tag, frame, message_frame
from pyro_mcp.guest.identity import Identity
from pyro_mcp.guest.messages import (
    AgentMessage,
    Attach,
    Commands,
    CommandState,
    CommandStates,
    End,
    Exec,
    Exited,
    Failed,
    HostMessage,
    Ok,
    Ping,
    Pong,
    Poweroff,
    Signal,
    Started,
    ToolRequest,
    from_json,
    to_json,
)
from pyro_mcp.guest.mux import MuxSession, MuxStream, StreamReset
from pyro_mcp.guest.preamble import AgentHello, handshake
from pyro_mcp.guest.tool_requests import Tool
from pyro_mcp.guest.violation import ProtocolViolation

OpenChannel = Callable[[], Awaitable[socket.socket]]
"""Opens the channel to the guest's agent. Raises `ConnectionResetError` where trying again helps, and any other
`OSError` where nobody will ever answer."""

Greet = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[AgentHello]]

_READ_LIMIT = 1 << 20  # bytes that wait between the channel and the multiplexer
_ITEMS_AT_ONCE = 256  # of what has arrived, before other tasks of the daemon get their turn
# An agent that took a hello for the rest of a broken session answers when the channel is closed and opened again.
_HELLO_SECONDS = 3.0
_REOPEN_SECONDS = 0.1


@dataclass(frozen=True)
class GuestClient:
    """A session with a guest's agent; every request runs on a stream of its own, many at once."""

    session: MuxSession
    hello: AgentHello

    def exec(self, request: Exec) -> "AbstractAsyncContextManager[GuestCommand]":
        """Start a command. Leaving the block before its end drops the stream, and the agent ends its process group,
        unless it is to be kept.
        """
        return self._following(request)

    def attach(self, kept: str, offset: int = 0) -> "AbstractAsyncContextManager[GuestCommand]":
        """Follow a kept command, running or not, from that byte of its output; leaving the block ends nothing.

        Its events are `Failed` with `no_such_command` if the agent does not know it.
        """
        return self._following(Attach(kept, offset))

    def tool(self, tool: Tool) -> "AbstractAsyncContextManager[GuestCommand]":
        """Let the agent do something by itself; leaving the block before its end cancels it. See `tools.run`."""
        return self._following(ToolRequest(tool))

    @property
    def closed(self) -> asyncio.Event:
        """Set when the session has ended, for whatever reason; `session.ended` says for which."""
        return self.session.closed

    async def ping(self) -> None:
        """Ask for a sign of life. Raises `GuestFailed` when the guest does not give the right one."""
        await self._ask(Ping(), Pong)

    async def poweroff(self) -> None:
        """Ask for an orderly end; returns when the agent has taken the request, before the machine is off."""
        await self._ask(Poweroff(), Ok)

    async def signal(self, pid: int, number: int) -> None:
        """Send a signal to the process group of a command; nothing happens if it has ended."""
        await self._ask(Signal(pid, number), Ok, but={"no_such_command"})

    async def commands(self) -> tuple[CommandState, ...]:
        """The kept commands: all that run, and those that ended last."""
        answer = await self._ask(Commands(), CommandStates)
        return answer.commands if isinstance(answer, CommandStates) else ()

    async def end(self, kept: str) -> None:
        """Begin to end a kept command: SIGTERM to its group, SIGKILL a second later. One that has ended is no error."""
        await self._ask(End(kept), Ok, but={"no_such_command"})

    @asynccontextmanager
    async def _following(self, request: HostMessage) -> "AsyncIterator[GuestCommand]":
        asking = message_frame(to_json(request))
        stream = self.session.open_stream()
        try:
            await stream.write(asking)
            yield GuestCommand(self, stream)
        finally:
            stream.reset()

    async def _ask(
        self, request: HostMessage, wanted: type[AgentMessage], but: Container[str] = frozenset()
    ) -> AgentMessage:
        """One request with one answer: `wanted`, or a failure with one of the codes in `but`."""
        asking = message_frame(to_json(request))
        stream = self.session.open_stream()
        try:
            await stream.write(asking)
            async for item in _frames(stream):
                if isinstance(item, wanted) or (isinstance(item, Failed) and item.code in but):
                    return item
                break
            raise ProtocolViolation(f"no {wanted.__name__} in answer to a {type(request).__name__}")
        finally:
            stream.reset()


class GuestCommand:
    """A command in a guest, from its start to its end."""

    def __init__(self, guest: GuestClient, stream: MuxStream) -> None:
        self._guest = guest
        self._stream = stream
        self._pid: int | None = None
        self._writing = asyncio.Lock()  # frames from several tasks must not mix

    async def events(self) -> "AsyncIterator[Started | Output | Failed | Exited]":
        """What happens: `Started`, output in the order in which it was written, and `Exited`; or `Failed` alone.

        Raises `GuestFailed` when the guest goes away or breaks the protocol.
        """
        async for item in _frames(self._stream):
            started = self._pid is not None
            match item:
                case Output() if started:
                    if item.data:
                        yield item
                case Started() if not started:
                    self._pid = item.pid
                    yield item
                case Exited() if started:
                    yield item
                    return
                case Failed() if not started:
                    yield item
                    return
                case _:
                    raise ProtocolViolation(f"{type(item).__name__} where it cannot be")
        raise StreamReset("it closed the stream before the command's end")

    async def write_stdin(self, data: bytes) -> None:
        """Give the command input (at most 1 MiB at once); waits while the command does not read it."""
        async with self._writing:
            await self._stream.write(frame(Tag.STDIN, data))

    async def close_stdin(self) -> None:
        """Tell the command that its input has ended."""
        async with self._writing:
            await self._stream.write(frame(Tag.STDIN, b""))

    async def signal(self, number: int) -> None:
        """Send a signal to the command's process group, which must have started."""
        if self._pid is None:
            raise ValueError("the command has not started")
        await self._guest.signal(self._pid, number)


@asynccontextmanager
async def connect(
    open_channel: OpenChannel, *, timeout_seconds: float, identity: Identity | None = None
) -> AsyncIterator[GuestClient]:
    """A session over a channel that can be opened once, which is closed at the end.

    A guest that waits to be told what machine it is becomes that of `identity`. `timeout_seconds` limits the
    handshake: how long the guest may take to boot and answer. Raises `GuestFailed`.
    """
    deadline = asyncio.get_running_loop().time() + timeout_seconds
    reader, writer = await _opened_once(open_channel, timeout_seconds)
    try:
        hello = await _in_time(handshake(reader, writer, identity), deadline, timeout_seconds)
        async with _session(reader, writer, hello) as client:
            yield client
    finally:
        # Not waiting for the close: what is still unsent is meant for a machine that nobody wants any more.
        writer.transport.abort()


async def meet(
    open_channel: OpenChannel, *, timeout_seconds: float, prepared_for: Identity | None = None
) -> AgentHello:
    """Wait until an agent answers, and leave it as it was, or `prepared_for` that identity as `prepare` does it.

    Raises `GuestFailed` where none does.
    """
    deadline = asyncio.get_running_loop().time() + timeout_seconds
    reader, writer = await _opened_once(open_channel, timeout_seconds)
    greet = preamble.meet if prepared_for is None else partial(preamble.prepare, identity=prepared_for)
    try:
        return await _in_time(greet(reader, writer), deadline, timeout_seconds)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def reconnect(
    open_channel: OpenChannel, *, timeout_seconds: float, identity: Identity | None = None
) -> AsyncIterator[GuestClient]:
    """A session over the channel of a machine that may have had other sessions, or may still boot; see `connect`.

    The channel is opened anew while the agent does not answer, for `timeout_seconds` in all. Raises `GuestFailed`:
    `guest_gone` where nobody listens.
    """
    reader, writer, hello = await _reach(open_channel, partial(handshake, identity=identity), timeout_seconds)
    try:
        async with _session(reader, writer, hello) as client:
            yield client
    finally:
        writer.transport.abort()


async def prepare(open_channel: OpenChannel, identity: Identity, *, timeout_seconds: float) -> None:
    """Have a guest that waits get ready to become the machine of that `identity`, whose seed may be another later.

    The channel is opened anew while the agent does not answer, as for `reconnect`, and closed. Raises `GuestFailed`.
    """
    _, writer, _ = await _reach(open_channel, partial(preamble.prepare, identity=identity), timeout_seconds)
    writer.transport.abort()


@asynccontextmanager
async def _session(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hello: AgentHello
) -> AsyncIterator[GuestClient]:
    session = MuxSession(reader, writer)
    serving = asyncio.create_task(session.serve())
    try:
        yield GuestClient(session, hello)
    finally:
        await tasks.end(serving)
        session.close()  # in case the task had not even begun


async def _reach(
    open_channel: OpenChannel, greet: Greet, timeout_seconds: float
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, AgentHello]:
    try:
        async with asyncio.timeout(timeout_seconds):
            while True:
                with contextlib.suppress(TimeoutError, asyncio.IncompleteReadError, ConnectionError):
                    reader, writer = await _open(open_channel)
                    return reader, writer, await _greeted(reader, writer, greet)
                await asyncio.sleep(_REOPEN_SECONDS)
    except TimeoutError as error:
        raise _silent(timeout_seconds) from error


async def _greeted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, greet: Greet) -> AgentHello:
    """One attempt at a handshake; the channel is closed if it fails."""
    try:
        async with asyncio.timeout(_HELLO_SECONDS):
            return await greet(reader, writer)
    except BaseException:
        writer.transport.abort()
        raise


async def _open(open_channel: OpenChannel) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        channel = await open_channel()
    except ConnectionResetError:
        raise
    except OSError as error:
        raise GuestFailed("guest_gone", "the machine is gone: nobody listens at its channel") from error
    return await asyncio.open_unix_connection(sock=channel, limit=_READ_LIMIT)


async def _opened_once(
    open_channel: OpenChannel, timeout_seconds: float
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _open(open_channel)
    except TimeoutError as error:
        raise _silent(timeout_seconds) from error
    except ConnectionResetError as error:
        raise _ended_early() from error


async def _in_time(saying: Coroutine[None, None, AgentHello], deadline: float, timeout_seconds: float) -> AgentHello:
    try:
        async with asyncio.timeout_at(deadline):
            return await saying
    except TimeoutError as error:
        raise _silent(timeout_seconds) from error
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise _ended_early() from error


def _ended_early() -> GuestFailed:
    return GuestFailed("guest_gone", "the guest ended before its agent answered", "run `pyro doctor`")


def _silent(timeout_seconds: float) -> GuestFailed:
    return GuestFailed(
        "guest_silent", f"the guest's agent did not answer within {timeout_seconds:g} s", "run `pyro doctor`"
    )


async def _frames(stream: MuxStream) -> "AsyncIterator[Output | AgentMessage]":
    decoder = FrameDecoder()
    while data := await stream.read():
        for count, item in enumerate(decoder.feed(data)):
            yield item if isinstance(item, Output) else from_json(item.content)
            if count % _ITEMS_AT_ONCE == _ITEMS_AT_ONCE - 1:
                await asyncio.sleep(0)
    if decoder.inside_frame:
        raise ProtocolViolation("a stream that ends inside a frame")
