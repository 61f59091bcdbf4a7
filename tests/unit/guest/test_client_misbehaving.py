"""Commands with an agent that breaks the protocol, or goes away."""

import asyncio

import pytest

from pyro_mcp.guest.frames import Output
from pyro_mcp.guest.messages import Exec, Exited, Started
from pyro_mcp.guest.mux import StreamReset
from pyro_mcp.guest.violation import ProtocolViolation
from tests.support.client_session import EXITED, run, saying, session
from tests.support.fake_agent import (
    MESSAGE,
    STDERR,
    STDIN,
    STDOUT,
    AgentStream,
    frame,
    message,
)
from tests.support.waiting import until


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
        await run(saying(answer))


@pytest.mark.parametrize(
    "answer", [b"", message(type="started", pid=1), message(type="started", pid=1) + frame(1, b"x")]
)
async def test_a_stream_that_ends_before_the_command_is_a_lost_guest(answer: bytes) -> None:
    with pytest.raises(StreamReset, match="before the command's end"):
        await run(saying(answer))


async def test_a_stream_that_the_agent_drops_is_a_lost_guest() -> None:
    async def handler(stream: AgentStream) -> None:
        await stream.request()
        await stream.say(type="started", pid=1)
        stream.drop()

    with pytest.raises(StreamReset, match="dropped"):
        await run(handler)


@pytest.mark.parametrize("moment", ["request", "output"])
async def test_an_agent_that_dies_in_the_middle(moment: str) -> None:
    async def handler(stream: AgentStream) -> None:
        await stream.request()
        if moment == "output":
            await stream.say(type="started", pid=1)
            await stream.send(b"\x01\x00\x00\xff\xff" + bytes(100))
        await stream._agent.wire.close()

    with pytest.raises(StreamReset) as caught:
        await run(handler)
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
