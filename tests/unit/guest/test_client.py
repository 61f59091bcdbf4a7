"""Commands from start to end, with an agent that keeps the protocol."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from pyro_mcp.guest.client import GuestClient
from pyro_mcp.guest.frames import Output, Tag
from pyro_mcp.guest.messages import Exec, Exited, Failed, Started
from pyro_mcp.guest.preamble import GENERATION
from pyro_mcp.guest.violation import ProtocolViolation
from tests.support.client_session import EXITED, events_of, run, saying, session
from tests.support.fake_agent import (
    BOOT_ID,
    STDERR,
    STDIN,
    STDOUT,
    AgentStream,
    frame,
    message,
)
from tests.support.live_guest import live_guest

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
        events = await events_of(command)
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
    assert await run(saying(message(type="error", code=code, message="why"))) == [Failed(code, "why")]


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

    received = b"".join(event.data for event in await run(handler) if isinstance(event, Output))
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
        await events_of(command)
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
        await events_of(command)
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
            events = await events_of(command)
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
                await events_of(command)

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


# Kept commands


async def test_following_a_kept_command_from_an_offset(tmp_path: Path) -> None:
    async with live_guest(tmp_path) as (guest, client):
        async with client.exec(Exec(("sh", "-c", "echo one; echo two >&2"), cwd="/workspace", keep="x-1")) as command:
            whole = [event async for event in command.events() if isinstance(event, Output)]
        async with client.attach("x-1", 2) as command:
            rest = await events_of(command)
        (state,) = await client.commands()
    assert rest[0] == Started(state.pid)
    assert rest[-1] == Exited(0, None, False)
    assert b"".join(event.data for event in rest if isinstance(event, Output)) == b"e\ntwo\n"
    assert {event.tag for event in whole} == {Tag.STDOUT, Tag.STDERR}
    assert (state.id, state.running, state.exit_code, state.output_bytes) == ("x-1", False, 0, 8)
    assert guest.requests[1] == {"type": "attach", "id": "x-1", "offset": 2}


async def test_a_command_that_the_agent_does_not_know_cannot_be_followed(tmp_path: Path) -> None:
    async with live_guest(tmp_path) as (_, client), client.attach("x-1") as command:
        assert [type(event) for event in await events_of(command)] == [Failed]


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


def test_the_double_writes_frames_as_the_protocol_says() -> None:
    """What the tests of the client stand on, byte for byte from protocol/README.md."""
    assert frame(STDOUT, b"ab") == b"\x01\x00\x00\x00\x02ab"
    assert message(type="pong")[:5] == bytes([3, 0, 0, 0, len(json.dumps({"type": "pong"}))])
