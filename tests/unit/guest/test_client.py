"""Commands from start to end, with an agent that keeps the protocol and with one that breaks it."""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pyro_mcp.errors import GuestFailed
from pyro_mcp.guest import client as client_module
from pyro_mcp.guest.client import GuestClient, GuestCommand, connect, reconnect
from pyro_mcp.guest.frames import Output, Tag
from pyro_mcp.guest.messages import Exec, Exited, Failed, Started
from pyro_mcp.guest.mux import StreamReset
from pyro_mcp.guest.preamble import GENERATION
from pyro_mcp.guest.violation import ProtocolViolation
from pyro_mcp.unix_path import connect_to
from tests.support import fake_agent
from tests.support.fake_agent import (
    BOOT_ID,
    MESSAGE,
    STDERR,
    STDIN,
    STDOUT,
    AgentStream,
    FakeAgent,
    channel,
    frame,
    message,
    opened,
    serving,
    wire_over,
)
from tests.support.fake_commands import FakeGuest, listening
from tests.support.live_guest import live_guest
from tests.support.waiting import until
from tests.support.wire import Wire

EXITED = {"type": "exited", "exit_code": 0, "signal": None, "timed_out": False}
Handler = Callable[[AgentStream], Awaitable[None]]


@asynccontextmanager
async def session(handler: Handler) -> AsyncIterator[tuple[GuestClient, FakeAgent]]:
    """A client of an agent that hands every stream to `handler`."""
    with channel() as (ours, theirs):
        async with (
            asyncio.timeout(60),
            serving(theirs, handler) as agent,
            connect(opened(ours), timeout_seconds=30) as client,
        ):
            yield client, agent


def saying(*parts: bytes) -> Handler:
    """An agent that takes the request, sends these bytes and ends the stream."""

    async def handler(stream: AgentStream) -> None:
        await stream.request()
        await stream.send(b"".join(parts))
        stream.finish()

    return handler


async def _events(command: GuestCommand) -> list[object]:
    return [event async for event in command.events()]


async def _run(handler: Handler) -> list[object]:
    async with session(handler) as (client, _), client.exec(Exec(("true",))) as command:
        return await _events(command)


# What a command does


async def test_the_agent_introduces_itself() -> None:
    async with session(saying()) as (client, _):
        assert (client.hello.generation, client.hello.agent_version, client.hello.boot_id) == (
            GENERATION,
            "0.1.0",
            BOOT_ID,
        )


async def test_a_command_from_start_to_end() -> None:
    asked: list[dict[str, Any]] = []

    async def handler(stream: AgentStream) -> None:
        asked.append(await stream.request())
        await stream.say(type="started", pid=42)
        await stream.send(frame(STDOUT, b"out") + frame(STDERR, b"err") + frame(STDOUT, b"") + frame(STDOUT, b"more"))
        await stream.say(**EXITED)
        stream.finish()

    request = Exec(("ls", "é", ""), cwd="/srv", env={"A": "1"}, stdin=True, timeout_ms=1500)
    async with session(handler) as (client, _), client.exec(request) as command:
        events = await _events(command)
    assert events[0] == Started(42)
    assert events[-1] == Exited(0, None, False)
    assert [event for event in events if isinstance(event, Output)] == [
        Output(Tag.STDOUT, b"out"),
        Output(Tag.STDERR, b"err"),
        Output(Tag.STDOUT, b"more"),
    ]
    wanted = {
        "argv": ["ls", "é", ""],
        "cwd": "/srv",
        "env": {"A": "1"},
        "stdin": True,
        "timeout_ms": 1500,
        "keep": None,
    }
    assert asked == [{"type": "exec", **wanted}]


@pytest.mark.parametrize("code", ["not_found", "not_executable", "bad_cwd", "bad_request", "internal"])
async def test_a_command_that_cannot_start(code: str) -> None:
    assert await _run(saying(message(type="error", code=code, message="why"))) == [Failed(code, "why")]


@pytest.mark.parametrize("size", [1, 4096, 65536, 3 << 20])
async def test_output_arrives_whole_however_large(size: int) -> None:
    data = os.urandom(size)

    async def handler(stream: AgentStream) -> None:
        await stream.request()
        await stream.say(type="started", pid=1)
        for start in range(0, size, 1 << 20):
            await stream.send(frame(STDOUT, data[start : start + (1 << 20)]))
        await stream.say(**EXITED)
        stream.finish()

    received = b"".join(event.data for event in await _run(handler) if isinstance(event, Output))
    assert received == data


async def test_input_reaches_the_command_and_ends() -> None:
    taken: list[tuple[int, bytes]] = []

    async def handler(stream: AgentStream) -> None:
        await stream.request()
        await stream.say(type="started", pid=1)
        async for tag, payload in stream.frames():
            taken.append((tag, payload))
            if not payload:
                break
        await stream.say(**EXITED)
        stream.finish()

    async with session(handler) as (client, _), client.exec(Exec(("cat",), stdin=True)) as command:
        await command.write_stdin(b"first")
        await command.write_stdin(b"x" * (1 << 20))
        await command.close_stdin()
        await _events(command)
    assert taken == [(STDIN, b"first"), (STDIN, b"x" * (1 << 20)), (STDIN, b"")]


async def test_input_of_several_tasks_does_not_mix() -> None:
    taken: list[bytes] = []
    size = 600_000  # more than the window: every write waits in its middle

    async def handler(stream: AgentStream) -> None:
        await stream.request()
        await stream.say(type="started", pid=1)
        async for _, payload in stream.frames():
            if not payload:
                break
            taken.append(payload)
        await stream.say(**EXITED)
        stream.finish()

    async with session(handler) as (client, _), client.exec(Exec(("cat",), stdin=True)) as command:
        await asyncio.gather(*(command.write_stdin(bytes([mark]) * size) for mark in range(4)))
        await command.close_stdin()
        await _events(command)
    assert sorted(taken) == [bytes([mark]) * size for mark in range(4)]


async def test_a_write_larger_than_a_frame_is_refused() -> None:
    async with session(saying()) as (client, _), client.exec(Exec(("cat",), stdin=True)) as command:
        with pytest.raises(ValueError, match="does not fit"):
            await command.write_stdin(bytes((1 << 20) + 1))


async def test_a_signal_has_a_stream_of_its_own_and_passes_unread_input() -> None:
    asked: list[dict[str, Any]] = []
    signalled = asyncio.Event()

    async def handler(stream: AgentStream) -> None:
        request = await stream.request()
        if request["type"] == "signal":
            asked.append(request)
            await stream.say(type="ok")
            stream.finish()
            signalled.set()
            return
        await stream.say(type="started", pid=42)
        await signalled.wait()
        await stream.say(type="exited", exit_code=None, signal=15, timed_out=False)
        stream.finish()

    async with session(handler) as (client, agent), client.exec(Exec(("sleep",), stdin=True)) as command:
        events = command.events()
        assert await anext(events) == Started(42)
        agent.gives_window_back = False
        writing = asyncio.create_task(command.write_stdin(bytes(1 << 20)))  # nobody reads it
        await asyncio.sleep(0)
        await command.signal(15)
        assert await anext(events) == Exited(None, 15, False)
        writing.cancel()
    assert asked == [{"type": "signal", "pid": 42, "signal": 15}]
    assert agent.overruns == []


async def test_a_signal_needs_a_command_that_has_started() -> None:
    async with session(saying()) as (client, _), client.exec(Exec(("true",))) as command:
        with pytest.raises(ValueError, match="not started"):
            await command.signal(15)


async def test_a_signal_for_a_command_that_has_ended_is_no_error() -> None:
    async with session(saying(message(type="error", code="no_such_command", message="gone"))) as (client, _):
        await client.signal(42, 15)


@pytest.mark.parametrize(("ask", "answer"), [("ping", "pong"), ("poweroff", "ok")])
async def test_requests_with_one_answer(ask: str, answer: str) -> None:
    asked: list[dict[str, Any]] = []

    async def handler(stream: AgentStream) -> None:
        asked.append(await stream.request())
        await stream.say(type=answer)
        stream.finish()

    async with session(handler) as (client, _):
        await getattr(client, ask)()
    assert asked == [{"type": ask}]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        message(type="ok"),
        message(type="error", code="internal", message="no"),
        message(type="error", code="no_such_command", message="no"),
        frame(STDOUT, b"x"),
        message(type="started", pid=1),
    ],
    ids=repr,
)
async def test_another_answer_is_a_violation(answer: bytes) -> None:
    async with session(saying(answer)) as (client, _):
        with pytest.raises(ProtocolViolation):
            await client.ping()


async def test_many_commands_at_once_do_not_mix() -> None:
    async def handler(stream: AgentStream) -> None:
        mark = int((await stream.request())["argv"][0])
        await stream.say(type="started", pid=mark)
        for _ in range(20):
            await stream.send(frame(STDOUT, bytes([mark]) * 30_000))
        await stream.say(type="exited", exit_code=mark, signal=None, timed_out=False)
        stream.finish()

    async def one(client: GuestClient, mark: int) -> None:
        async with client.exec(Exec((str(mark),))) as command:
            events = await _events(command)
        assert events[0] == Started(mark)
        assert events[-1] == Exited(mark, None, False)
        assert b"".join(event.data for event in events if isinstance(event, Output)) == bytes([mark]) * 600_000

    async with session(handler) as (client, agent):
        await asyncio.gather(*(one(client, mark) for mark in range(1, 17)))
    assert agent.overruns == []


# How a command may be left


async def test_leaving_before_the_end_drops_the_stream_and_nothing_else() -> None:
    async def handler(stream: AgentStream) -> None:
        if (await stream.request())["type"] == "ping":
            await stream.say(type="pong")
            return
        await stream.say(type="started", pid=1)

    async with session(handler) as (client, agent):
        async with client.exec(Exec(("sleep",))) as command:
            assert await anext(command.events()) == Started(1)
        stream = await agent.new_stream.get()
        await stream.was_reset.wait()
        await client.ping()


async def test_cancelling_drops_the_stream() -> None:
    async with session(lambda stream: stream.say(type="started", pid=1)) as (client, agent):

        async def follow() -> None:
            async with client.exec(Exec(("sleep",))) as command:
                await _events(command)

        following = asyncio.create_task(follow())
        stream = await agent.new_stream.get()
        assert not stream.was_reset.is_set()
        following.cancel()
        await asyncio.wait((following,))
        assert following.cancelled()
        await stream.was_reset.wait()


async def test_a_reader_that_stops_reading_holds_the_command_back() -> None:
    sent = 0

    async def handler(stream: AgentStream) -> None:
        nonlocal sent
        await stream.request()
        await stream.say(type="started", pid=1)
        while not stream.was_reset.is_set():
            await stream.send(frame(STDOUT, bytes(50_000)))
            sent += 50_000

    async with session(handler) as (client, agent):
        async with client.exec(Exec(("yes",))) as command:
            events = command.events()
            await anext(events)
            before = -1
            while before != sent:  # until nothing moves any more
                before = sent
                await asyncio.sleep(0.02)
            assert 0 < sent <= 2 << 20
            # And it goes on when it is read on.
            taken = 0
            while taken < 8 << 20:
                event = await anext(events)
                assert isinstance(event, Output)
                taken += len(event.data)
        assert agent.overruns == []


# What a guest may do wrong


@pytest.mark.parametrize(
    "answer",
    [
        frame(STDOUT, b"too early"),
        frame(STDOUT, b""),
        message(**EXITED),
        message(type="pong"),
        message(type="ok"),
        message(type="started", pid=1) + message(type="started", pid=2),
        message(type="started", pid=1) + message(type="error", code="internal", message="late"),
        message(type="started", pid=1) + message(type="pong"),
        message(type="started", pid=1) + message(type="exited", exit_code=1, signal=1, timed_out=False),
        message(type="started", pid=1) + message(type="unheard"),
        message(type="started", pid=1) + frame(STDIN, b"backwards"),
        message(type="started", pid=1) + frame(9, b""),
        message(type="started", pid=1) + b"\x01\xff\xff\xff\xff",
        message(type="started", pid=1) + frame(MESSAGE, b"[" * 100_000),
        message(type="started", pid=1) + frame(STDOUT, b"half")[:-1],
        message(type="started", pid=1)[:-1],
        b"\x03\0\0",
        b"rubbish",
    ],
    ids=lambda answer: repr(answer[-24:]),
)
async def test_an_agent_that_breaks_the_protocol_is_told_so(answer: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        await _run(saying(answer))


@pytest.mark.parametrize(
    "answer", [b"", message(type="started", pid=1), message(type="started", pid=1) + frame(1, b"x")]
)
async def test_a_stream_that_ends_before_the_command_is_a_lost_guest(answer: bytes) -> None:
    with pytest.raises(StreamReset, match="before the command's end"):
        await _run(saying(answer))


async def test_a_stream_that_the_agent_drops_is_a_lost_guest() -> None:
    async def handler(stream: AgentStream) -> None:
        await stream.request()
        await stream.say(type="started", pid=1)
        stream.drop()

    with pytest.raises(StreamReset, match="dropped"):
        await _run(handler)


@pytest.mark.parametrize("moment", ["request", "output"])
async def test_an_agent_that_dies_in_the_middle(moment: str) -> None:
    async def handler(stream: AgentStream) -> None:
        await stream.request()
        if moment == "output":
            await stream.say(type="started", pid=1)
            await stream.send(b"\x01\x00\x00\xff\xff" + bytes(100))
        await stream._agent.wire.close()

    with pytest.raises(StreamReset) as caught:
        await _run(handler)
    assert caught.value.code == "guest_gone"


async def test_writing_to_an_agent_that_died() -> None:
    async with session(saying(message(type="started", pid=1))) as (client, agent):
        async with client.exec(Exec(("cat",), stdin=True)) as command:
            await anext(command.events())
            await agent.wire.close()
            with pytest.raises(StreamReset):
                await command.write_stdin(bytes(1 << 20))
        with pytest.raises(StreamReset):
            await client.ping()


async def test_an_agent_that_floods_everything_is_stopped_by_leaving() -> None:
    async def handler(stream: AgentStream) -> None:
        await stream.request()
        await stream.say(type="started", pid=1)
        while not stream.was_reset.is_set():
            await stream.send((frame(STDOUT, b"") + frame(STDERR, b"y\n")) * 5000)

    async with session(handler) as (client, agent), client.exec(Exec(("yes",))) as command:
        taken = 0
        async for event in command.events():
            if isinstance(event, Output):
                taken += len(event.data)
            if taken > 1 << 17:
                break
    assert agent.overruns == []


async def test_a_guest_that_sends_only_tiny_frames_leaves_time_for_others() -> None:
    async def handler(stream: AgentStream) -> None:
        await stream.request()
        await stream.say(type="started", pid=1)
        await stream.send(frame(STDOUT, b"") * 20_000)
        await stream.say(**EXITED)

    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with session(handler) as (client, _), client.exec(Exec(("yes",))) as command:
        events = command.events()
        assert await anext(events) == Started(1)
        await until(lambda: sum(map(len, command._stream._chunks)) >= 100_000)  # all of it has arrived
        other = asyncio.create_task(others())
        assert await anext(events) == Exited(0, None, False)
        assert turns > 50
        other.cancel()


# Kept commands


async def test_following_a_kept_command_from_an_offset(tmp_path: Path) -> None:
    async with live_guest(tmp_path) as (guest, client):
        async with client.exec(Exec(("sh", "-c", "echo one; echo two >&2"), cwd="/workspace", keep="x-1")) as command:
            whole = [event async for event in command.events() if isinstance(event, Output)]
        async with client.attach("x-1", 2) as command:
            rest = await _events(command)
        (state,) = await client.commands()
    assert rest[0] == Started(state.pid)
    assert rest[-1] == Exited(0, None, False)
    assert b"".join(event.data for event in rest if isinstance(event, Output)) == b"e\ntwo\n"
    assert {event.tag for event in whole} == {Tag.STDOUT, Tag.STDERR}
    assert (state.id, state.running, state.exit_code, state.output_bytes) == ("x-1", False, 0, 8)
    assert guest.requests[1] == {"type": "attach", "id": "x-1", "offset": 2}


async def test_a_command_that_the_agent_does_not_know_cannot_be_followed(tmp_path: Path) -> None:
    async with live_guest(tmp_path) as (_, client), client.attach("x-1") as command:
        assert [type(event) for event in await _events(command)] == [Failed]


async def test_a_kept_command_is_ended_by_its_id(tmp_path: Path) -> None:
    async with live_guest(tmp_path) as (_, client):
        async with client.exec(Exec(("sleep", "1000"), cwd="/workspace", keep="x-1")) as command:
            events = command.events()
            assert isinstance(await anext(events), Started)
            await client.end("x-1")
            assert await anext(events) == Exited(None, 15, False)
        await client.end("x-1")  # it has ended, which is no error


async def test_the_end_of_the_session_is_an_event(tmp_path: Path) -> None:
    async with live_guest(tmp_path) as (_, client):
        assert not client.closed.is_set()
    assert client.closed.is_set()


# Connecting


async def test_an_agent_that_says_nothing_is_given_up_in_time() -> None:
    with channel() as (ours, _):
        with pytest.raises(GuestFailed) as caught:
            async with connect(opened(ours), timeout_seconds=0.05):
                raise AssertionError("there is nobody")
        assert caught.value.code == "guest_silent"
        await asyncio.sleep(0)
        assert ours.fileno() == -1


async def test_an_agent_that_says_only_rubbish_is_given_up() -> None:
    with channel() as (ours, theirs):
        async with wire_over(theirs) as wire:
            wire.writer.write(b"login: " * 1000)
            with pytest.raises(GuestFailed) as caught:
                async with connect(opened(ours), timeout_seconds=0.05):
                    raise AssertionError("there is nobody")
    assert caught.value.code == "guest_silent"


async def test_a_guest_that_ends_before_its_agent_answers() -> None:
    with channel() as (ours, theirs):
        theirs.close()
        with pytest.raises(GuestFailed) as caught:
            async with connect(opened(ours), timeout_seconds=30):
                raise AssertionError("there is nobody")
    assert caught.value.code == "guest_gone"


async def test_an_agent_of_another_generation_is_refused() -> None:
    with channel() as (ours, theirs):
        async with wire_over(theirs) as wire:

            async def answer() -> None:
                _, nonce, _ = await fake_agent.read_packet(wire.reader)
                wire.writer.write(fake_agent.reply(nonce, generation=GENERATION + 1))

            answering = asyncio.create_task(answer())
            with pytest.raises(GuestFailed) as caught:
                async with connect(opened(ours), timeout_seconds=30):
                    raise AssertionError("it must not be spoken to")
            await answering
    assert caught.value.code == "guest_generation"


async def test_a_socket_with_a_long_path_is_reached(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    short = tmp_path / "s"
    short.symlink_to(folder)
    async with listening(short / "agent.sock", FakeGuest(tmp_path)):
        async with reconnect(partial(connect_to, folder / "agent.sock"), timeout_seconds=30) as client:
            await client.ping()
        async with reconnect(partial(connect_to, folder / "agent.sock"), timeout_seconds=30) as client:
            await client.ping()
        assert client.closed.is_set()


async def test_an_agent_that_misses_a_hello_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one does that takes it for the rest of a frame that a dead daemon cut short."""
    monkeypatch.setattr(client_module, "_HELLO_SECONDS", 0.05)
    connections = 0
    done = asyncio.Event()

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        match connections:
            case 1:
                with contextlib.suppress(ConnectionError):
                    await reader.read()  # to the end, without a word
            case 2:
                writer.write(b"rubbish")
            case _:
                await FakeAgent(Wire(reader, writer), FakeGuest(tmp_path)).serve()
                done.set()
        writer.transport.abort()

    server = await asyncio.start_unix_server(session, tmp_path / "sock")
    async with server, reconnect(partial(connect_to, tmp_path / "sock"), timeout_seconds=30) as client:
        await client.ping()
    await done.wait()
    assert connections == 3


async def test_an_agent_that_never_answers_is_given_up(tmp_path: Path) -> None:
    left = asyncio.Event()

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.transport.abort()
        left.set()

    async with await asyncio.start_unix_server(session, tmp_path / "sock"):
        with pytest.raises(GuestFailed) as caught:
            async with reconnect(partial(connect_to, tmp_path / "sock"), timeout_seconds=0.1):
                raise AssertionError("there is nobody")
        await left.wait()
    assert caught.value.code == "guest_silent"


@pytest.mark.parametrize("there", [True, False])
async def test_a_machine_that_is_gone_is_not_waited_for(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "agent.sock"
    if there:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
    with pytest.raises(GuestFailed) as caught:
        async with reconnect(partial(connect_to, path), timeout_seconds=30):
            raise AssertionError("there is nobody")
    assert caught.value.code == "guest_gone"


class Openings:
    """A channel whose first openings fail, one for each error given."""

    def __init__(self, path: Path, *errors: OSError) -> None:
        self.tried = 0
        self._path = path
        self._errors = list(errors)

    async def __call__(self) -> socket.socket:
        self.tried += 1
        if self._errors:
            raise self._errors.pop(0)
        return await connect_to(self._path)


async def test_a_channel_that_is_hung_up_on_is_opened_again(tmp_path: Path) -> None:
    """As one is by a VMM whose guest has no agent at that moment."""
    openings = Openings(tmp_path / "sock", ConnectionResetError("no agent"), ConnectionResetError("no agent"))
    async with listening(tmp_path / "sock", FakeGuest(tmp_path)), reconnect(openings, timeout_seconds=30) as client:
        await client.ping()
    assert openings.tried == 3


@pytest.mark.parametrize("error", [ConnectionRefusedError("none"), FileNotFoundError("none"), OSError("none")])
@pytest.mark.parametrize("way", [connect, reconnect])
async def test_a_channel_that_nobody_will_ever_answer_is_not_tried_again(
    tmp_path: Path, way: Callable[..., AbstractAsyncContextManager[GuestClient]], error: OSError
) -> None:
    openings = Openings(tmp_path / "sock", error)
    with pytest.raises(GuestFailed) as caught:
        async with way(openings, timeout_seconds=30):
            raise AssertionError("there is nobody")
    assert caught.value.code == "guest_gone"
    assert openings.tried == 1


async def test_a_channel_that_can_be_opened_once_is_not_tried_again(tmp_path: Path) -> None:
    openings = Openings(tmp_path / "sock", ConnectionResetError("no agent"))
    with pytest.raises(GuestFailed) as caught:
        async with connect(openings, timeout_seconds=30):
            raise AssertionError("there is nobody")
    assert caught.value.code == "guest_gone"
    assert openings.tried == 1


@pytest.mark.parametrize("way", [connect, reconnect])
async def test_a_channel_that_never_opens_is_given_up_in_time(
    way: Callable[..., AbstractAsyncContextManager[GuestClient]],
) -> None:
    given_up = asyncio.Event()

    async def wait() -> socket.socket:
        try:
            return await asyncio.Future[socket.socket]()
        finally:
            given_up.set()

    with pytest.raises(GuestFailed) as caught:
        async with way(wait, timeout_seconds=0.05):
            raise AssertionError("there is nobody")
    assert caught.value.code == "guest_silent"
    assert given_up.is_set()


async def test_the_time_that_a_channel_takes_to_open_is_part_of_the_guests() -> None:
    """A boot may take so long, however much of it went by before the channel was open."""
    loop = asyncio.get_running_loop()
    with channel() as (ours, _):

        async def slowly() -> socket.socket:
            await asyncio.sleep(0.4)
            return ours

        began = loop.time()
        with pytest.raises(GuestFailed) as caught:
            async with connect(slowly, timeout_seconds=0.5):
                raise AssertionError("there is nobody")
        assert caught.value.code == "guest_silent"
        assert loop.time() - began < 0.85


async def test_leaving_the_session_closes_the_channel_and_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    async with session(saying(message(type="pong"))) as (client, agent):
        await client.ping()
        alive = client.session.ended is None
    assert alive
    assert client.session.ended == "the guest went away: the session was closed"
    assert agent.wire.writer.transport.is_closing()
    assert asyncio.all_tasks() == before


async def test_a_failure_inside_the_session_is_not_hidden_by_its_end() -> None:
    async def fail() -> None:
        async with session(saying()) as (_, agent):
            await agent.wire.close()
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await fail()


def test_the_double_writes_frames_as_the_protocol_says() -> None:
    """What the tests of the client stand on, byte for byte from protocol/README.md."""
    assert frame(STDOUT, b"ab") == b"\x01\x00\x00\x00\x02ab"
    assert message(type="pong")[:5] == bytes([3, 0, 0, 0, len(json.dumps({"type": "pong"}))])
