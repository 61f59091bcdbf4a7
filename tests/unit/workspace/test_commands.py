"""Commands of a workspace: started, followed, given input; what is recorded of each."""

import asyncio
import re
from pathlib import Path

import pytest

from pyro_mcp.errors import (
    CommandNotStarted,
    Conflict,
    InvalidRequest,
    NotFound,
)
from pyro_mcp.events import Event, OutputChunk
from pyro_mcp.workspace import commands
from pyro_mcp.workspace_models import ExecRequest, OutputQuery
from tests.support.waiting import until
from tests.unit.workspace.live_commands import SLEEP, Live, alive

# From start to end


async def test_a_command_is_followed_and_recorded(tmp_path: Path) -> None:
    async with alive(tmp_path) as live:
        info = await live.run("sh", "-c", "pwd; echo oops >&2; exit 3")
        assert re.fullmatch(r"x-[0-9a-f]{6}", info.exec_id)
        assert live.output("stdout") == f"{tmp_path}\n".encode()
        assert live.output("stderr") == b"oops\n"
        assert (info.workspace_id, info.status, info.exit_code) == ("w-1", "exited", 3)
        assert info.command == ("sh", "-c", "pwd; echo oops >&2; exit 3")
        assert info.output_bytes == len(f"{tmp_path}\noops\n")
        assert info.duration_ms is not None
        assert live.history.rows[info.exec_id] == info
        assert live.history.writes == [(info.exec_id, "running"), (info.exec_id, "exited")]
        assert live.runner.active == 0
        (asked,) = live.guest.requests  # no round trip but its own
        assert {name: asked[name] for name in ("cwd", "keep", "timeout_ms", "stdin", "env")} == {
            "cwd": "/workspace",
            "keep": info.exec_id,
            "timeout_ms": 60_000,
            "stdin": False,
            "env": {},
        }


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [("exit 0", "exited", 0), ("kill -9 $$", "exited", 137), ("kill -TERM $$", "exited", 143)],
)
async def test_how_commands_end(tmp_path: Path, script: str, status: str, code: int) -> None:
    async with alive(tmp_path) as live:
        info = await live.run("sh", "-c", script)
        assert (info.status, info.exit_code) == (status, code)


async def test_a_command_whose_time_is_up(tmp_path: Path) -> None:
    async with alive(tmp_path) as live:
        info = await live.run("sleep", "1000", timeout_seconds=1)
        assert (info.status, info.exit_code) == ("timed_out", 124)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (ExecRequest(()), "no_command"),
        (ExecRequest(("",)), "no_command"),
        (ExecRequest(("a\0",)), "bad_command"),
        (ExecRequest(("\udcff",)), "bad_command"),
        (ExecRequest(("a" * 600_000,)), "bad_command"),
        (ExecRequest(("a",), timeout_seconds=0), "out_of_range"),
        (ExecRequest(("a",), timeout_seconds=86401), "out_of_range"),
    ],
    ids=lambda value: repr(value)[:50],
)
async def test_what_cannot_run_is_refused_and_not_recorded(tmp_path: Path, request_: ExecRequest, code: str) -> None:
    async with alive(tmp_path) as live:
        with pytest.raises(InvalidRequest) as caught:
            await live.runner.start(request_)
        assert caught.value.code == code
        assert (live.history.rows, live.guest.requests, live.runner.active) == ({}, [], 0)


async def test_a_command_that_does_not_start_is_recorded_as_failed(tmp_path: Path) -> None:
    (tmp_path / "plain").touch(mode=0o644)
    async with alive(tmp_path) as live:
        with pytest.raises(CommandNotStarted) as missing:
            await live.runner.start(ExecRequest(("no-such-program",)))
        with pytest.raises(CommandNotStarted) as plain:
            await live.runner.start(ExecRequest(("./plain",)))
        assert (missing.value.exit_code, plain.value.exit_code) == (127, 126)
        rows = list(live.history.rows.values())
        assert [(row.status, row.exit_code) for row in rows] == [("failed", 127), ("failed", 126)]
        page = await live.runner.output(rows[0].exec_id, OutputQuery())
        assert (page.data, page.total_bytes, page.next_offset, page.running) == (b"", 0, None, False)
        assert live.runner.active == 0


async def test_many_commands_at_once_do_not_mix(tmp_path: Path) -> None:
    async with alive(tmp_path) as live:
        runs = [
            Live(live.guest, live.client, live.history, live.runner) for _ in range(10)
        ]  # each with chunks of its own
        infos = await asyncio.gather(*(run.run("echo", str(number)) for number, run in enumerate(runs)))
        assert [run.output("stdout") for run in runs] == [b"%d\n" % number for number in range(10)]
        assert len({info.exec_id for info in infos}) == 10


async def test_not_more_than_a_session_can_carry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_MOST_RUNNING", 1)
    async with alive(tmp_path) as live:
        await live.runner.start(SLEEP)
        with pytest.raises(Conflict, match="1 commands run"):
            await live.runner.start(SLEEP)


async def test_an_id_is_not_used_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = iter(["aaaaaa", "aaaaaa", "bbbbbb"])
    monkeypatch.setattr("pyro_mcp.workspace.commands.secrets.token_hex", lambda _bytes: next(tokens))
    async with alive(tmp_path) as live:
        assert (await live.run("true")).exec_id == "x-aaaaaa"
        assert (await live.run("true")).exec_id == "x-bbbbbb"


# Input and signals


async def test_input_reaches_the_command(tmp_path: Path) -> None:
    async with alive(tmp_path) as live:
        command = await live.runner.start(ExecRequest(("cat",), stdin=True))
        following = asyncio.create_task(command.follow(live.emit))
        await command.write_stdin(b"x" * (3 << 20))
        await command.write_stdin(b"end")
        await command.close_stdin()
        info = await following
        assert live.output("stdout") == b"x" * (3 << 20) + b"end"
        assert info.output_bytes == (3 << 20) + 3
        with pytest.raises(NotFound):
            await command.write_stdin(b"late")


async def test_input_that_was_not_announced_is_refused(tmp_path: Path) -> None:
    async with alive(tmp_path) as live:
        command = await live.runner.start(SLEEP)
        with pytest.raises(InvalidRequest) as caught:
            await command.write_stdin(b"x")
        assert caught.value.code == "no_stdin"


async def test_input_that_nobody_reads_is_given_up_with_the_command(tmp_path: Path) -> None:
    async with alive(tmp_path) as live:
        command = await live.runner.start(ExecRequest(("sleep", "1000"), stdin=True))
        live.guest.deaf.add("none")
        writing = asyncio.create_task(command.write_stdin(bytes(64 << 20)))
        await asyncio.sleep(0)
        await command.cancel()
        with pytest.raises(NotFound) as caught:
            await writing
        assert caught.value.code == "command_not_running"


async def test_signals(tmp_path: Path) -> None:
    async with alive(tmp_path) as live:
        command = await live.runner.start(SLEEP)
        await command.signal(10)
        result = await live.runner.wait(command.exec_id, 30)
        assert (result.info.status, result.info.exit_code) == ("exited", 138)
        with pytest.raises(NotFound):
            await command.signal(10)


async def test_a_signal_that_is_none_is_refused(tmp_path: Path) -> None:
    async with alive(tmp_path) as live:
        command = await live.runner.start(SLEEP)
        with pytest.raises(InvalidRequest):
            await command.signal(65)


# Following


async def test_nothing_is_lost_between_the_start_and_the_follower(tmp_path: Path) -> None:
    async with alive(tmp_path) as live:
        command = await live.runner.start(ExecRequest(("echo", "early")))
        await command.done.wait()
        assert (await command.follow(live.emit)).status == "exited"
        assert live.output("stdout") == b"early\n"


async def test_a_slow_follower_holds_the_command_back(tmp_path: Path) -> None:
    going = asyncio.Event()
    taken = 0

    async def emit(event: Event | OutputChunk) -> None:
        nonlocal taken
        await going.wait()
        assert isinstance(event, OutputChunk)
        taken += len(event.data)

    async with alive(tmp_path) as live:
        command = await live.runner.start(ExecRequest(("head", "-c", "20000000", "/dev/zero")))
        following = asyncio.create_task(command.follow(emit))
        before = -1
        while before != command.info.output_bytes:  # until nothing moves any more
            before = command.info.output_bytes or 0
            await asyncio.sleep(0.05)
        assert 0 < before < 2 << 20
        going.set()
        assert (await following).output_bytes == 20_000_000
        assert taken == 20_000_000


async def test_following_one_that_was_only_waited_for_tells_its_end(tmp_path: Path) -> None:
    async with alive(tmp_path) as live:
        command = await live.runner.start(ExecRequest(("echo", "early")))
        await live.runner.wait(command.exec_id, 30)
        assert (await command.follow(live.emit)).status == "exited"
        assert live.chunks == []


async def test_only_one_may_follow(tmp_path: Path) -> None:
    async with alive(tmp_path) as live:
        command = await live.runner.start(SLEEP)
        following = asyncio.create_task(command.follow(live.emit))
        await asyncio.sleep(0)
        with pytest.raises(Conflict):
            await command.follow(live.emit)
        await command.cancel()
        assert (await following).status == "cancelled"


@pytest.mark.parametrize("how", ["cancelled", "broken"])
async def test_a_follower_that_goes_away_cancels_the_command(tmp_path: Path, how: str) -> None:
    async def broken(_event: Event | OutputChunk) -> None:
        raise ConnectionError("the client is gone")

    async with alive(tmp_path) as live:
        command = await live.runner.start(ExecRequest(("sh", "-c", "echo here; exec sleep 1000")))
        following = asyncio.create_task(command.follow(broken if how == "broken" else live.emit))
        await until(lambda: bool(live.chunks) or following.done())
        following.cancel()
        await asyncio.wait((following,))
        await command.done.wait()
        assert live.history.rows[command.exec_id].status == "cancelled"
        assert live.runner.active == 0


async def test_a_follower_that_goes_away_does_not_leave_the_end_behind_its_output(tmp_path: Path) -> None:
    async def stuck(_event: Event | OutputChunk) -> None:
        await asyncio.Future()

    async with alive(tmp_path) as live:
        command = await live.runner.start(ExecRequest(("cat", "/dev/zero")))
        following = asyncio.create_task(command.follow(stuck))
        await until(lambda: (command.info.output_bytes or 0) > 1 << 18)
        following.cancel()
        await asyncio.wait((following,))
        await command.done.wait()
        assert command.info.status == "cancelled"


async def test_a_start_that_is_given_up_cancels_the_command(tmp_path: Path) -> None:
    """Whether the guest has started it already or not."""
    async with alive(tmp_path) as live:
        starting = asyncio.create_task(live.runner.start(SLEEP))
        await until(lambda: bool(live.guest.requests))
        starting.cancel()
        await asyncio.wait((starting,))
        await until(lambda: live.runner.active == 0)
        (row,) = live.history.rows.values()
        assert row.status == "cancelled"
