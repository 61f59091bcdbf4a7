"""Commands of a workspace: waited for, cancelled, adopted, lost; what is recorded of each."""

import asyncio
from pathlib import Path

import pytest

from pyro_mcp.errors import (
    DaemonFailed,
    GuestFailed,
    InvalidRequest,
    NotFound,
    PyroError,
)
from pyro_mcp.events import Event, OutputChunk
from pyro_mcp.guest.violation import ProtocolViolation
from pyro_mcp.workspace import commands, running
from pyro_mcp.workspace.commands import CommandRunner
from pyro_mcp.workspace_models import ExecInfo, ExecRequest, OutputQuery
from tests.support.fake_agent import STDOUT, AgentStream, frame, message
from tests.support.fake_commands import FakeGuest
from tests.support.live_guest import MemoryHistory, live_guest, session_with
from tests.support.waiting import until
from tests.unit.workspace.live_commands import SLEEP, Live, alive, bare

# Waiting


async def test_waiting_for_the_end(tmp_path: Path) -> None:
    async with alive(tmp_path) as live:
        command = await live.runner.start(ExecRequest(("sh", "-c", "echo out; echo err >&2")))
        result = await live.runner.wait(command.exec_id, 30)
        assert result.info == live.history.rows[command.exec_id]
        assert sorted(result.head.split()) == [b"err", b"out"]
        assert result.tail == b""
        assert len(live.guest.requests) == 1


async def test_waiting_no_longer_than_asked(tmp_path: Path) -> None:
    async with alive(tmp_path) as live:
        command = await live.runner.start(ExecRequest(("sh", "-c", "echo so far; exec sleep 1000")))
        await until(lambda: command.info.output_bytes == 7)
        result = await live.runner.wait(command.exec_id, 0)
        assert (result.info.status, result.info.exit_code, result.info.output_bytes) == ("running", None, 7)
        assert result.head == b"so far\n"
        assert live.runner.running(command.exec_id) is command
        assert live.runner.info(command.exec_id).output_bytes == 7
        assert live.history.rows[command.exec_id].output_bytes is None
        with pytest.raises(InvalidRequest):
            await live.runner.wait(command.exec_id, 301)


async def test_output_that_nobody_follows_passes_in_bounded_memory(tmp_path: Path) -> None:
    async with alive(tmp_path) as live:
        command = await live.runner.start(ExecRequest(("sh", "-c", "seq 200000")))
        result = await live.runner.wait(command.exec_id, 50)
        assert result.info.status == "exited"
        assert result.head.startswith(b"1\n2\n")
        assert result.tail.endswith(b"\n200000\n")
        assert len(result.head) + len(result.tail) <= 8192


async def test_waiting_for_one_that_ended_long_ago(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_REMEMBERED", 2)
    async with alive(tmp_path) as live:
        first = await live.run("seq", "9000")
        for _ in range(3):
            await live.run("true")
        result = await live.runner.wait(first.exec_id, 0)
        assert result.info == first
        assert (result.head[:4], result.tail[-5:]) == (b"1\n2\n", b"9000\n")
        assert await live.runner.cancel(first.exec_id) == first
        with pytest.raises(NotFound) as caught:
            live.runner.running(first.exec_id)
        assert caught.value.code == "command_not_running"
        live.guest.kept.clear()  # as after a reset
        assert (await live.runner.wait(first.exec_id, 0)).head == b""
        with pytest.raises(NotFound) as gone:
            await live.runner.output(first.exec_id, OutputQuery())
        assert gone.value.code == "output_gone"


async def test_who_waits_may_go(tmp_path: Path) -> None:
    async with alive(tmp_path) as live:
        command = await live.runner.start(SLEEP)
        waiting = asyncio.create_task(live.runner.wait(command.exec_id, 300))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait((waiting,))
        assert not command.done.is_set()
        assert live.guest.asked("end") == []


async def test_commands_that_nobody_knows(tmp_path: Path) -> None:
    async with alive(tmp_path) as live:
        for asking in (
            live.runner.wait("x-0", 1),
            live.runner.cancel("x-0"),
            live.runner.output("x-0", OutputQuery()),
        ):
            with pytest.raises(NotFound) as caught:
                await asking
            assert caught.value.code == "unknown_command"
        with pytest.raises(NotFound):
            live.runner.running("x-0")


async def test_nothing_is_held_of_commands_that_ended(tmp_path: Path) -> None:
    async with alive(tmp_path) as live:
        tasks_before = len(asyncio.all_tasks())
        for _ in range(50):
            await live.run("true")
        assert len(live.runner._ended) == 16
        await until(lambda: len(asyncio.all_tasks()) <= tasks_before)
        assert live.runner.active == 0


# Cancelling


async def test_cancelling_returns_when_it_is_over(tmp_path: Path) -> None:
    async with alive(tmp_path) as live:
        command = await live.runner.start(ExecRequest(("sh", "-c", "trap '' TERM; echo set; sleep 1000 & wait")))
        await until(lambda: command.info.output_bytes == 4)
        info = await live.runner.cancel(command.exec_id)
        assert (info.status, info.exit_code) == ("cancelled", 137)
        assert await live.runner.cancel(command.exec_id) == info
        assert live.history.rows[command.exec_id] == info


async def test_cancelling_one_whose_output_nobody_takes(tmp_path: Path) -> None:
    taken = 0
    going = asyncio.Event()

    async def emit(event: Event | OutputChunk) -> None:
        nonlocal taken
        assert isinstance(event, OutputChunk)
        await going.wait()
        taken += len(event.data)

    async with alive(tmp_path) as live:
        command = await live.runner.start(ExecRequest(("head", "-c", "3000000", "/dev/zero")))
        following = asyncio.create_task(command.follow(emit))
        await until(lambda: (command.info.output_bytes or 0) > 1 << 18)
        assert (await live.runner.cancel(command.exec_id)).status == "cancelled"
        going.set()
        assert (await following).status == "cancelled"
        assert taken == live.guest.kept[command.exec_id].size  # what it had said is not lost


async def test_a_guest_that_does_not_end_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_END_ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(running, "_END_SECONDS", 0.05)
    async with alive(tmp_path) as live:
        command = await live.runner.start(SLEEP)
        live.guest.deaf.add("end")
        with pytest.raises(GuestFailed) as caught:
            await live.runner.cancel(command.exec_id)
        assert caught.value.code == "not_cancelled"
        assert live.history.rows[command.exec_id].status == "running"


@pytest.mark.parametrize("started", [True, False])
async def test_a_guest_that_forgets_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: bool) -> None:
    monkeypatch.setattr(running, "GRACE_SECONDS", -0.9)
    monkeypatch.setattr(running, "LAST_WORDS_SECONDS", 0.05)

    async def handler(stream: AgentStream) -> None:
        request = await stream.request()
        if request["type"] == "end":
            await stream.say(type="ok")
            return
        if started:
            await stream.say(type="started", pid=1)
        await stream.was_reset.wait()

    async with bare(handler) as (runner, history):
        if started:
            command = await runner.start(ExecRequest(("sleep", "1000"), timeout_seconds=1))
            result = await runner.wait(command.exec_id, 30)
            assert (result.info.status, result.info.exit_code) == ("timed_out", 124)
        else:
            with pytest.raises(GuestFailed, match="did not start"):
                await runner.start(ExecRequest(("sleep", "1000"), timeout_seconds=1))
        (row,) = history.rows.values()
        assert row.status == ("timed_out" if started else "failed")
        assert runner.active == 0


# Guests that go away, and daemons


async def test_closing_tells_followers_and_records_the_loss(tmp_path: Path) -> None:
    async with alive(tmp_path) as live:
        command = await live.runner.start(SLEEP)
        following = asyncio.create_task(command.follow(live.emit))
        waiting = asyncio.create_task(live.runner.wait(command.exec_id, 300))
        await asyncio.sleep(0)
        await live.runner.close()
        for task in (following, waiting):
            with pytest.raises(GuestFailed) as caught:
                await task
            assert caught.value.code == "workspace_stopped"
            assert "at its time limit, or by somebody" in caught.value.message
            assert "the next use starts it again, unless the user stopped it" in str(caught.value.hint)
            assert "`pyro workspace status w-1`" in str(caught.value.hint)
        assert live.history.rows[command.exec_id].status == "lost"
        assert live.runner.active == 0
        with pytest.raises(GuestFailed):
            await live.runner.start(SLEEP)
        await live.runner.close()


async def test_detaching_leaves_commands_to_the_next_daemon(tmp_path: Path) -> None:
    async with asyncio.timeout(60), live_guest(tmp_path) as (guest, client):
        history = MemoryHistory()
        first = CommandRunner("w-1", client, history)
        script = "echo begun; while [ ! -e go ]; do sleep 0.02; done; echo done; exit 7"
        lasting = await first.start(ExecRequest(("sh", "-c", script)))
        ending = await first.start(ExecRequest(("sh", "-c", "while [ ! -e stop ]; do sleep 0.02; done; exit 8")))
        lost = await first.start(SLEEP)
        following = asyncio.create_task(lasting.follow(Live(guest, client, history, first).emit))
        await until(lambda: lasting.info.output_bytes == 6)
        await first.detach()
        with pytest.raises(DaemonFailed):
            await following
        assert {row.status for row in history.rows.values()} == {"running"}
        assert guest.asked("end") == []

        (tmp_path / "stop").touch()
        await until(lambda: guest.kept[ending.exec_id].end is not None)
        await guest.kept.pop(lost.exec_id).stop()
        async with session_with(guest) as next_client:
            second = CommandRunner("w-1", next_client, history)
            await second.adopt()
            await second.adopt()  # which adopts nothing twice
            assert second.active == 1
            assert len(guest.asked("attach")) == 1
            assert history.rows[ending.exec_id].status == "exited"
            assert history.rows[ending.exec_id].exit_code == 8
            assert history.rows[lost.exec_id].status == "lost"
            running_one = await second.wait(lasting.exec_id, 0)
            assert (running_one.info.status, running_one.head) == ("running", b"begun\n")
            (tmp_path / "go").touch()
            result = await second.wait(lasting.exec_id, 30)
            assert (result.info.status, result.info.exit_code, result.info.output_bytes) == ("exited", 7, 11)
            assert result.head == b"begun\ndone\n"
            assert history.rows[lasting.exec_id] == result.info
            await second.adopt()  # nothing is left to do
            assert second.active == 0


async def test_an_adopted_command_can_be_followed_from_now_on_signalled_and_cancelled(tmp_path: Path) -> None:
    async with alive(tmp_path) as live:
        command = await live.runner.start(ExecRequest(("sh", "-c", "echo before; exec sleep 1000")))
        await until(lambda: command.info.output_bytes == 7)
        await live.runner.detach()
        async with session_with(live.guest) as client:
            second = CommandRunner("w-1", client, live.history)
            await second.adopt()
            adopted = second.running(command.exec_id)
            following = asyncio.create_task(adopted.follow(live.emit))
            await adopted.signal(18)
            with pytest.raises(InvalidRequest):
                await adopted.write_stdin(b"x")
            assert (await second.cancel(command.exec_id)).status == "cancelled"
            assert (await following).status == "cancelled"


async def test_a_command_that_was_being_cancelled_is_adopted_as_that(tmp_path: Path) -> None:
    script = "trap '' TERM; echo set; while true; do sleep 0.02; done"
    async with alive(tmp_path) as live:
        command = await live.runner.start(ExecRequest(("sh", "-c", script)))
        await until(lambda: command.info.output_bytes == 4)
        await live.client.end(command.exec_id)
        await live.runner.detach()
        async with session_with(live.guest) as client:
            second = CommandRunner("w-1", client, live.history)
            await second.adopt()
            assert (await second.wait(command.exec_id, 30)).info.status == "cancelled"


async def test_the_end_of_a_session_alone_is_not_recorded(tmp_path: Path) -> None:
    """The machine may live, and the command with it; who owns the session knows."""
    async with asyncio.timeout(60):
        guest, history = FakeGuest(tmp_path), MemoryHistory()
        async with session_with(guest) as client:
            runner = CommandRunner("w-1", client, history)
            command = await runner.start(SLEEP)
        with pytest.raises(GuestFailed):
            await runner.wait(command.exec_id, 30)
        assert history.rows[command.exec_id].status == "running"
        with pytest.raises(GuestFailed):
            await runner.start(SLEEP)
        async with session_with(guest) as client:
            second = CommandRunner("w-1", client, history)
            await second.adopt()
            assert second.running(command.exec_id).info.status == "running"
            await second.cancel(command.exec_id)
        await runner.close()
        assert history.rows[command.exec_id].status == "lost"  # had there been no other runner
        await guest.close()


@pytest.mark.parametrize(
    ("answer", "status", "kind"),
    [
        (frame(STDOUT, b"too early"), "failed", ProtocolViolation),
        (message(type="error", code="internal", message="no memory"), "failed", GuestFailed),
        (message(type="error", code="bad_request", message="no"), "failed", InvalidRequest),
        (message(type="started", pid=1) + message(type="started", pid=1), "lost", ProtocolViolation),
        (message(type="started", pid=1), "lost", GuestFailed),
    ],
    ids=lambda value: repr(value)[-40:],
)
async def test_a_guest_that_misbehaves_about_one_command(answer: bytes, status: str, kind: type[PyroError]) -> None:
    async def handler(stream: AgentStream) -> None:
        await stream.request()
        await stream.send(answer)
        stream.finish()

    async with bare(handler) as (runner, history):
        with pytest.raises(kind):
            await (await runner.start(SLEEP)).result(30)
        (row,) = history.rows.values()
        assert (row.status, runner.active) == (status, 0)


async def test_a_command_that_ends_just_before_it_is_adopted() -> None:
    asked: list[str] = []

    async def handler(stream: AgentStream) -> None:
        request = await stream.request()
        asked.append(request["type"])
        if request["type"] == "commands":
            state = {"id": "x-1", "pid": 5, "running": True, "exit_code": None, "signal": None}
            more = {"timed_out": False, "cancelled": False, "output_bytes": 3}
            await stream.say(type="commands", commands=[{**state, **more}])
        else:
            await stream.say(type="error", code="no_such_command", message="gone")
        stream.finish()

    async with bare(handler) as (runner, history):
        history.add_exec(ExecInfo("x-1", "w-1", ("a",), "running", "2026-01-01T00:00:00+00:00"))
        await runner.adopt()
        await until(lambda: runner.active == 0)
        assert history.rows["x-1"].status == "lost"
    assert asked == ["commands", "attach"]


async def test_a_history_that_fails_does_not_hide_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_info: ExecInfo) -> None:
        raise OSError("no space")

    async with alive(tmp_path) as live:
        monkeypatch.setattr(live.history, "update_exec", full)
        assert (await live.run("true")).status == "exited"
