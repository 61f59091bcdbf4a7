"""Running tools: input and output at once, failures told as ours, and agents that misbehave."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from pyro_mcp.errors import Conflict, GuestFailed, HostUnfit, InvalidRequest, NotFound, PyroError
from pyro_mcp.guest import tools
from pyro_mcp.guest.mux import StreamReset
from pyro_mcp.guest.patience import Patience
from pyro_mcp.guest.violation import ProtocolViolation
from tests.support.client_session import EXITED, session
from tests.support.fake_agent import (
    STDERR,
    STDOUT,
    AgentStream,
    Handler,
    frame,
    message,
)
from tests.support.fake_tools import ToolFailed
from tests.support.live_guest import live_guest

READ = tools.ReadTool("/workspace/a", 0, 100)
UNPACK = tools.UnpackTool("/workspace")


def saying(*parts: bytes, **end: object) -> Handler:
    async def handler(stream: AgentStream) -> None:
        await stream.request()
        await stream.say(type="started", pid=1)
        await stream.send(b"".join(parts))
        await stream.say(**{**EXITED, **end})
        stream.finish()

    return handler


async def _answer(handler: Handler, tool: tools.Tool = READ, most: int = 0) -> bytes:
    async with session(handler) as (client, _):
        return await tools.run(client, tool, most=most)


async def test_what_a_tool_says_is_returned() -> None:
    assert (
        await _answer(saying(frame(STDOUT, b"one "), frame(STDERR, b"a warning"), frame(STDOUT, b"two"))) == b"one two"
    )


async def test_the_request_names_the_tool(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    async with live_guest(tmp_path) as (guest, client):
        answer = await tools.run(client, READ)
    assert answer.endswith(b"\ncontent")
    assert guest.requests == [
        {"type": "tool", "tool": {"name": "read", "path": "/workspace/a", "offset": 0, "limit": 100}}
    ]


async def test_more_than_was_asked_for_is_a_violation() -> None:
    assert len(await _answer(saying(frame(STDOUT, bytes((64 << 10) + 100))), most=100)) == (64 << 10) + 100
    with pytest.raises(ProtocolViolation, match="bytes in answer"):
        await _answer(saying(frame(STDOUT, bytes((64 << 10) + 101))), most=100)


async def test_a_long_complaint_is_cut() -> None:
    """It makes no sense any more, which is all that there is to say of it."""
    with pytest.raises(ProtocolViolation, match="without a reason"):
        await _answer(saying(*[frame(STDERR, b"x" * 60_000)] * 50, exit_code=1))


async def test_input_and_output_flow_at_once_and_hold_nothing_back(tmp_path: Path) -> None:
    """More in either direction than all windows together, echoed as it comes."""
    sent, size = 0, 8 << 20

    async def echo(stream: AgentStream) -> None:
        await stream.request()
        await stream.say(type="started", pid=1)
        async for _, payload in stream.frames():
            if not payload:
                break
            await stream.send(frame(STDOUT, payload))
        await stream.say(**EXITED)
        stream.finish()

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < size:
            sent += 1 << 20
            yield os.urandom(1 << 20)

    taken = 0

    async def take(data: bytes) -> None:
        nonlocal taken
        taken += len(data)

    async with session(echo) as (client, fake):
        assert await tools.run(client, UNPACK, stdin=pieces(), on_output=take) == b""
    assert (taken, fake.overruns) == (size, [])


async def test_slow_taking_holds_the_tool_back() -> None:
    sent = 0
    going = asyncio.Event()

    async def handler(stream: AgentStream) -> None:
        nonlocal sent
        await stream.request()
        await stream.say(type="started", pid=1)
        for _ in range(100):
            await stream.send(frame(STDOUT, bytes(100_000)))
            sent += 100_000
        await stream.say(**EXITED)
        stream.finish()

    async def take(_data: bytes) -> None:
        await going.wait()

    async with session(handler) as (client, _):
        running = asyncio.create_task(tools.run(client, tools.PackTool("/workspace"), on_output=take))
        before = -1
        while before != sent:  # until nothing moves any more
            before = sent
            await asyncio.sleep(0.02)
        assert sent <= 2 << 20
        going.set()
        await running
    assert sent == 10_000_000


@pytest.mark.parametrize(
    ("code", "kind", "ours"),
    [
        ("outside", InvalidRequest, "outside_workspace"),
        ("not_found", NotFound, "file_not_found"),
        ("exists", Conflict, "file_exists"),
        ("not_a_directory", InvalidRequest, "not_a_directory"),
        ("is_a_directory", InvalidRequest, "is_a_directory"),
        ("not_a_file", InvalidRequest, "not_a_file"),
        ("no_space", HostUnfit, "workspace_full"),
        ("read_only", Conflict, "read_only"),
        ("bad_archive", InvalidRequest, "bad_archive"),
        ("bad_patch", InvalidRequest, "bad_patch"),
        ("patch_failed", InvalidRequest, "patch_failed"),
        ("bad_pattern", InvalidRequest, "bad_pattern"),
        ("unknown_command", NotFound, "output_gone"),
        ("io", GuestFailed, "guest_io"),
    ],
)
async def test_a_failure_means_one_of_our_errors(code: str, kind: type[PyroError], ours: str) -> None:
    complaint = ToolFailed(code, "line one\nline \x1b[31mtwo\x07").json()
    with pytest.raises(kind) as caught:
        await _answer(saying(frame(STDERR, complaint), exit_code=1))
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.message) == (ours, "line one\nline \ufffd[31mtwo\ufffd")
    assert ("`pyro workspace stop W`" in str(caught.value.hint)) == (code == "read_only")


@pytest.mark.parametrize(
    "complaint",
    [
        b"",
        b"no JSON",
        b"\xff",
        b"[]",
        b"{}",
        b'{"code": "io"}',
        b'{"code": "never heard", "message": "x"}',
        b'{"code": [], "message": "x"}',
        b"[" * 60_000,
        b'{"code": "io", "message": "\\ud800"}',
    ],
    ids=lambda complaint: repr(complaint[:20]),
)
async def test_a_failure_without_sense_is_a_violation(complaint: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        await _answer(saying(frame(STDERR, complaint) if complaint else b"", exit_code=1))


@pytest.mark.parametrize("end", [{"exit_code": 2}, {"exit_code": None, "signal": 9}])
async def test_a_tool_that_ends_otherwise_failed(end: dict[str, object]) -> None:
    with pytest.raises(GuestFailed, match=r"`read` ended with") as caught:
        await _answer(saying(**end))
    assert caught.value.code == "guest_tool"


@pytest.mark.parametrize(("code", "kind"), [("bad_request", InvalidRequest), ("internal", GuestFailed)])
async def test_a_tool_that_the_agent_refuses(code: str, kind: type[PyroError]) -> None:
    async def handler(stream: AgentStream) -> None:
        await stream.request()
        await stream.send(message(type="error", code=code, message="why"))
        stream.finish()

    with pytest.raises(kind, match="why"):
        await _answer(handler)


async def test_a_tool_may_end_before_it_has_read_everything() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(100_000)
        finally:
            closed.set()

    async with session(saying(frame(STDERR, ToolFailed("bad_archive", "not a tar").json()), exit_code=1)) as (
        client,
        fake,
    ):
        fake.gives_window_back = False
        with pytest.raises(InvalidRequest, match="not a tar"):
            await tools.run(client, UNPACK, stdin=endless())
        assert closed.is_set()


async def test_an_error_of_the_input_ends_the_tool() -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"some"
        raise NotFound("file_not_found", "it vanished")

    async def waiting(stream: AgentStream) -> None:
        await stream.request()
        await stream.say(type="started", pid=1)

    async with session(waiting) as (client, fake):
        with pytest.raises(NotFound, match="vanished"):
            await tools.run(client, UNPACK, stdin=failing())
        await (await fake.new_stream.get()).was_reset.wait()


async def test_an_error_of_who_takes_the_output_ends_the_tool() -> None:
    async def take(_data: bytes) -> None:
        raise KeyError("mine")

    async def talking(stream: AgentStream) -> None:
        await stream.request()
        await stream.say(type="started", pid=1)
        await stream.send(frame(STDOUT, b"x"))

    async with session(talking) as (client, fake):
        with pytest.raises(KeyError, match="mine"):
            await tools.run(client, UNPACK, stdin=b"x", on_output=take)
        await (await fake.new_stream.get()).was_reset.wait()


@pytest.mark.parametrize("stdin", [None, b"x" * (2 << 20)])
async def test_cancelling_ends_the_tool_and_leaves_no_task(stdin: bytes | None) -> None:
    async def waiting(stream: AgentStream) -> None:
        await stream.request()
        await stream.say(type="started", pid=1)

    async with session(waiting) as (client, fake):
        before = asyncio.all_tasks()
        running = asyncio.create_task(tools.run(client, UNPACK, stdin=stdin))
        stream = await fake.new_stream.get()
        running.cancel()
        await asyncio.wait((running,))
        assert running.cancelled()
        await stream.was_reset.wait()
        assert asyncio.all_tasks() <= before


@pytest.mark.parametrize("stdin", [None, b"x" * (2 << 20)])
async def test_a_guest_that_dies_in_the_middle(stdin: bytes | None) -> None:
    async def dying(stream: AgentStream) -> None:
        await stream.request()
        await stream.say(type="started", pid=1)
        await stream._agent.wire.close()

    async with session(dying) as (client, _):
        with pytest.raises(StreamReset):
            await tools.run(client, UNPACK, stdin=stdin)


# A guest that does nothing


async def _silent(_stream: AgentStream) -> None:
    """Take nothing and say nothing."""


async def _only_started(stream: AgentStream) -> None:
    await stream.request()
    await stream.say(type="started", pid=1)


async def _taking_without_an_answer(stream: AgentStream) -> None:
    await _only_started(stream)
    async for _ in stream.frames():
        pass


@pytest.mark.parametrize("handler", [_silent, _only_started, _taking_without_an_answer])
@pytest.mark.parametrize("stdin", [None, b"x", b"x" * (2 << 20)], ids=["none", "short", "long"])
async def test_a_guest_that_does_nothing_is_given_up(handler: Handler, stdin: bytes | None) -> None:
    async with session(handler) as (client, fake):
        before = asyncio.all_tasks()
        running = asyncio.create_task(tools.run(client, UNPACK, stdin=stdin, stall_seconds=0.1))
        stream = await fake.new_stream.get()
        with pytest.raises(GuestFailed, match="did nothing about `unpack` for") as caught:
            await running
        assert (caught.value.code, caught.value.hint is not None) == ("guest_stalled", True)
        await stream.was_reset.wait()
        assert {task for task in asyncio.all_tasks() if "tools.py" in repr(task)} <= before


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> list[Patience]:
    """Those of the tools that the test runs."""
    made: list[Patience] = []

    def make(seconds: float) -> Patience:
        made.append(Patience(seconds))
        return made[-1]

    monkeypatch.setattr(tools, "Patience", make)
    return made


async def test_time_that_we_take_does_not_count(patience: list[Patience]) -> None:
    """Neither where there is no input to give, nor where output is not taken; but what the guest takes does."""
    counting: list[tuple[str, bool]] = []
    taken, given = asyncio.Event(), asyncio.Event()

    def note(when: str) -> None:
        counting.append((when, patience[0].limit.when() is not None))

    async def handler(stream: AgentStream) -> None:
        await _only_started(stream)
        frames = stream.frames()
        await anext(frames)
        await stream.send(frame(STDOUT, b"x"))
        await taken.wait()
        given.set()
        await anext(frames)  # the end of the input
        note("the guest works")
        await stream.say(**EXITED)
        stream.finish()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"some"
        await taken.wait()
        note("no input")
        await given.wait()

    async def take(_data: bytes) -> None:
        note("output")
        taken.set()

    async with session(handler) as (client, _):
        await tools.run(client, UNPACK, stdin=pieces(), on_output=take)
    assert counting == [("output", False), ("no input", False), ("the guest works", True)]


async def test_the_time_for_taking_output_alone_does_not_count(patience: list[Patience]) -> None:
    counting: list[bool] = []

    async def take(_data: bytes) -> None:
        counting.append(patience[0].limit.when() is not None)

    async with session(saying(frame(STDOUT, b"x"))) as (client, _):
        await tools.run(client, READ, on_output=take)
    assert counting == [False]


async def test_each_part_of_the_input_that_is_taken_begins_the_time_anew() -> None:
    patience = Patience(1000.0)
    fresh: list[bool] = []

    class Command:
        async def write_stdin(self, _data: bytes) -> None:
            soon = asyncio.get_running_loop().time() + 100
            fresh.append((patience.limit.when() or 0) > soon)
            patience.limit.reschedule(soon)

        async def close_stdin(self) -> None:
            await self.write_stdin(b"")

    async with patience.limit:
        await tools._feed(cast("Any", Command()), b"x" * (700 << 10), patience)
        assert fresh == [True] * 4
        assert (patience.limit.when() or 0) > asyncio.get_running_loop().time() + 500


async def test_a_time_out_of_who_takes_the_output_is_theirs() -> None:
    async def take(_data: bytes) -> None:
        raise TimeoutError("mine")

    async with session(saying(frame(STDOUT, b"x"))) as (client, _):
        with pytest.raises(TimeoutError, match="mine"):
            await tools.run(client, READ, on_output=take)
