"""One command in a machine of its own: what is emitted, how it ends, and what is left when it goes wrong."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pyro_mcp import phases
from pyro_mcp.errors import CommandNotStarted, GuestFailed, InvalidRequest, NotFound, PyroError
from pyro_mcp.events import Event, OutputChunk
from pyro_mcp.guest.messages import Exited
from pyro_mcp.images import store
from pyro_mcp.images.store import OpenImage
from pyro_mcp.models import Progress, RunFinished, RunRequest, RunStarted
from pyro_mcp.workspace import backlog, endings, throwaway
from pyro_mcp.workspace.control import RunControl
from pyro_mcp.workspace.throwaway import check, run_in_vm
from tests.support.fake_agent import STDERR, STDOUT, AgentStream, frame
from tests.support.fake_machine import Boots, answering, fake_host
from tests.support.waiting import until

REQUEST = RunRequest("debian:12", ("ls",))
pytestmark = pytest.mark.usefixtures("disks", "installed")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[OpenImage]:
    """An environment that is there; the images of it that were opened."""
    opened: list[OpenImage] = []

    async def open_verified(_images: object, name: str) -> OpenImage:
        opened.append(OpenImage(name, "digest", os.memfd_create("image"), 0, tmp_path))
        return opened[-1]

    async def ensure(_images: object, _name: str, report: Callable[[Progress], Awaitable[None]]) -> None:
        await report(Progress("pull", "done", "debian:12"))

    monkeypatch.setattr(store, "open_verified", open_verified)
    monkeypatch.setattr(throwaway, "ensure_installed", ensure)
    return opened


class Run:
    """A run with its fake guest; `events` is what it emitted."""

    def __init__(
        self, folder: Path, handler: Callable[[AgentStream], Awaitable[None]], notice: str | None = None
    ) -> None:
        self.boots = Boots(guests=[answering(handler)])
        self.control = RunControl()
        self.events: list[Event | OutputChunk] = []
        self._host = replace(fake_host(folder, self.boots), notice=notice)

    async def emit(self, event: Event | OutputChunk) -> None:
        self.events.append(event)

    async def __call__(self, request: RunRequest = REQUEST) -> None:
        async with asyncio.timeout(60):
            await run_in_vm(self._host, request, self.control, self.emit)

    @property
    def finished(self) -> RunFinished:
        last = self.events[-1]
        assert isinstance(last, RunFinished)
        return last


def ending(**end: Any) -> Callable[[AgentStream], Awaitable[None]]:
    """A command that starts and ends."""

    async def handler(stream: AgentStream) -> None:
        await stream.request()
        await stream.say(type="started", pid=1)
        await stream.say(**{"type": "exited", "exit_code": None, "signal": None, "timed_out": False, **end})
        stream.finish()

    return handler


async def test_what_is_to_be_said_of_the_vmm_is_said_first(tmp_path: Path, installed: list[OpenImage]) -> None:
    run = Run(tmp_path, ending(exit_code=0), "this is the slow one")
    await run()
    assert run.events[0] == Progress("run", "notice", "", "this is the slow one")
    assert run.events.count(run.events[0]) == 1


async def test_where_the_time_went_is_recorded(tmp_path: Path, installed: list[OpenImage]) -> None:
    run = Run(tmp_path, ending(exit_code=0))
    recorder = phases.PhaseRecorder()
    with phases.recording(recorder):
        await run()
    told = recorder.phases
    names = [
        "environment",
        "template",
        "disk",
        "turn",
        "vmm",
        "guest",
        "session",
        "command",
        "machine_gone",
        "last_output",
    ]
    assert [phase.name for phase in told] == names
    assert all(before.ended_us == after.began_us for before, after in pairwise(told))


async def test_a_command_from_request_to_end(tmp_path: Path, installed: list[OpenImage]) -> None:
    asked: list[dict[str, Any]] = []

    async def handler(stream: AgentStream) -> None:
        asked.append(await stream.request())
        await stream.say(type="started", pid=1)
        await stream.send(frame(STDOUT, b"out") + frame(STDERR, b"err"))
        await stream.say(type="exited", exit_code=3, signal=None, timed_out=False)
        stream.finish()

    run = Run(tmp_path, handler)
    await run(replace(REQUEST, command=("ls", "-l"), timeout_seconds=7, stdin=True, vcpu_count=2, mem_mib=256))
    progress, started, out, err, finished = run.events
    assert isinstance(progress, Progress)
    assert isinstance(started, RunStarted)
    assert started.vmm == "fake"
    assert (out, err) == (OutputChunk("stdout", b"out"), OutputChunk("stderr", b"err"))
    assert isinstance(finished, RunFinished)
    assert replace(finished, duration_ms=0) == RunFinished("debian:12", "fake", 3, False, 0)
    assert finished.duration_ms >= started.boot_ms
    assert [(request["argv"], request["timeout_ms"], request["stdin"]) for request in asked] == [
        (["ls", "-l"], 7000, True)
    ]
    assert (run.boots.specs[0].vcpu_count, run.boots.specs[0].mem_mib) == (2, 256)
    assert run.boots.alive == 0
    (image,) = installed
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(image.fd)


@pytest.mark.parametrize(
    ("end", "exit_code"),
    [
        ({"exit_code": 0}, 0),
        ({"exit_code": 255}, 255),
        ({"signal": 9}, 137),
        ({"signal": 64}, 192),
        ({"signal": 15, "timed_out": True}, 124),
        ({"exit_code": 0, "timed_out": True}, 124),
    ],
)
async def test_exit_codes_are_a_shells(tmp_path: Path, end: dict[str, Any], exit_code: int) -> None:
    run = Run(tmp_path, ending(**end))
    await run()
    assert run.finished.exit_code == exit_code
    assert run.finished.timed_out == end.get("timed_out", False)


@pytest.mark.parametrize(
    ("code", "kind", "raised", "exit_code"),
    [
        ("not_found", CommandNotStarted, "command_not_found", 127),
        ("not_executable", CommandNotStarted, "command_not_executable", 126),
        ("bad_request", InvalidRequest, "bad_command", 1),
        ("bad_cwd", InvalidRequest, "bad_command", 1),
        ("internal", GuestFailed, "guest_failed", 2),
        ("made up by a hostile guest", GuestFailed, "guest_protocol", 2),
    ],
)
async def test_a_command_that_cannot_start(
    tmp_path: Path, code: str, kind: type[PyroError], raised: str, exit_code: int
) -> None:
    async def handler(stream: AgentStream) -> None:
        await stream.request()
        await stream.say(type="error", code=code, message="x" * 10_000)
        stream.finish()

    run = Run(tmp_path, handler)
    with pytest.raises(kind) as caught:
        await run()
    assert (caught.value.code, caught.value.exit_code) == (raised, exit_code)
    assert len(caught.value.message) < 400
    assert run.boots.alive == 0


async def test_an_agent_that_lets_a_command_run_on_loses_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throwaway, "GRACE_SECONDS", -0.9)

    async def handler(stream: AgentStream) -> None:
        await stream.request()
        await stream.say(type="started", pid=1)
        while not stream.was_reset.is_set():  # hostile: a sign of life now and then
            await stream.send(frame(STDOUT, b"."))
            await asyncio.sleep(0.01)

    run = Run(tmp_path, handler)
    await run(replace(REQUEST, timeout_seconds=1))
    assert (run.finished.exit_code, run.finished.timed_out) == (124, True)
    assert run.boots.alive == 0


async def test_a_reader_that_takes_nothing_keeps_its_output_but_not_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throwaway, "GRACE_SECONDS", -0.9)
    monkeypatch.setattr(backlog, "_HELD_BYTES", 4)
    words = [b"one ", b"two ", b"three ", b"four "]

    async def handler(stream: AgentStream) -> None:
        await stream.request()
        await stream.say(type="started", pid=1)
        for word in words:
            await stream.send(frame(STDOUT, word))
        await stream.say(type="exited", exit_code=None, signal=15, timed_out=True)
        stream.finish()

    run = Run(tmp_path, handler)
    reads_again = asyncio.Event()

    async def slow(event: Event | OutputChunk) -> None:
        if isinstance(event, OutputChunk):
            await reads_again.wait()
        run.events.append(event)

    run.emit = slow  # type: ignore[method-assign]
    running = asyncio.create_task(run(replace(REQUEST, timeout_seconds=1)))
    await until(lambda: run.boots.alive == 1)
    await until(lambda: run.boots.alive == 0)
    assert not running.done()
    reads_again.set()
    await running
    assert b"".join(event.data for event in run.events if isinstance(event, OutputChunk)) == b"".join(words)
    assert (run.finished.exit_code, run.finished.timed_out) == (124, True)


async def test_output_comes_before_the_error_that_ended_it(tmp_path: Path) -> None:
    async def handler(stream: AgentStream) -> None:
        await stream.request()
        await stream.say(type="started", pid=1)
        await stream.send(frame(STDOUT, b"last words"))
        await stream.say(type="rubbish")

    run = Run(tmp_path, handler)
    with pytest.raises(GuestFailed):
        await run()
    assert run.events[-1] == OutputChunk("stdout", b"last words")


async def test_a_machine_that_outlives_its_time_goes(tmp_path: Path) -> None:
    async def handler(stream: AgentStream) -> None:
        await stream.request()
        await stream.say(type="started", pid=1)

    run = Run(tmp_path, handler)
    with pytest.raises(PyroError) as caught:
        await run(replace(REQUEST, ttl_seconds=1))
    assert (caught.value.code, caught.value.exit_code) == ("ttl_expired", 124)
    assert "1 s" in caught.value.message
    assert run.boots.alive == 0


async def test_a_time_out_of_something_else_is_not_taken_for_the_machines(tmp_path: Path) -> None:
    run = Run(tmp_path, ending(exit_code=0))

    async def fail(event: Event | OutputChunk) -> None:
        if isinstance(event, RunStarted):
            raise TimeoutError("of the disk")

    run.emit = fail  # type: ignore[method-assign]
    with pytest.raises(TimeoutError, match="of the disk"):
        await run()


async def test_cancelling_ends_the_machine(tmp_path: Path) -> None:
    started = asyncio.Event()

    async def handler(stream: AgentStream) -> None:
        await stream.request()
        await stream.say(type="started", pid=1)
        started.set()

    run = Run(tmp_path, handler)
    running = asyncio.create_task(run())
    await started.wait()
    running.cancel()
    await asyncio.wait((running,))
    assert running.cancelled()
    assert run.boots.alive == 0


async def test_input_and_signals_reach_the_command(tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []
    taken = bytearray()

    async def handler(stream: AgentStream) -> None:
        request = await stream.request()
        asked.append(request)
        if request["type"] == "signal":
            await stream.say(type="ok")
            return
        await stream.say(type="started", pid=42)
        async for _, payload in stream.frames():
            taken.extend(payload)
            if not payload:
                break
        await stream.say(type="exited", exit_code=0, signal=None, timed_out=False)
        stream.finish()

    run = Run(tmp_path, handler)
    running = asyncio.create_task(run(replace(REQUEST, stdin=True)))
    # All of it waits for the command's start.
    await run.control.signal(2)
    await run.control.write_stdin(b"some ")
    await run.control.write_stdin(b"input")
    await run.control.close_stdin()
    await running
    assert asked[1] == {"type": "signal", "pid": 42, "signal": 2}
    assert taken == b"some input"
    for late in (run.control.signal(2), run.control.write_stdin(b"x"), run.control.close_stdin()):
        with pytest.raises(NotFound) as caught:
            await late
        assert caught.value.code == "unknown_run"


@pytest.mark.parametrize("attached", [True, False])
async def test_a_control_that_is_closed_turns_everybody_away(attached: bool) -> None:
    control = RunControl()
    waiting = asyncio.create_task(control.signal(2)) if not attached else None
    await asyncio.sleep(0)
    if attached:
        control.attach(None)  # type: ignore[arg-type]
    control.close()
    control.close()
    if waiting is not None:
        with pytest.raises(NotFound):
            await waiting
    with pytest.raises(NotFound):
        await control.close_stdin()


@pytest.mark.parametrize(
    ("changes", "code", "named"),
    [
        ({"command": ()}, "no_command", "command"),
        ({"command": ("", "x")}, "no_command", "command"),
        ({"command": ("ls", "a\0b")}, "bad_command", "NUL"),
        ({"command": ("ls", "x" * (512 << 10))}, "bad_command", "512 KiB"),
        ({"command": ("ls", *["é" * 1000] * 90)}, "bad_command", "too long"),
        ({"network": True}, "network_unsupported", "network"),
        ({"vcpu_count": 0}, "out_of_range", "--vcpu-count"),
        ({"vcpu_count": 33}, "out_of_range", "--vcpu-count"),
        ({"mem_mib": 127}, "out_of_range", "--mem-mib"),
        ({"mem_mib": 65537}, "out_of_range", "--mem-mib"),
        ({"timeout_seconds": 0}, "out_of_range", "--timeout-seconds"),
        ({"timeout_seconds": 86401}, "out_of_range", "--timeout-seconds"),
        ({"ttl_seconds": 0}, "out_of_range", "--ttl-seconds"),
        ({"ttl_seconds": 86401}, "out_of_range", "--ttl-seconds"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(changes: dict[str, Any], code: str, named: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check(replace(REQUEST, **changes))
    assert caught.value.code == code
    assert named in caught.value.message
    assert caught.value.hint


def test_the_hint_on_an_empty_command_is_for_programs() -> None:
    with pytest.raises(InvalidRequest) as caught:
        check(replace(REQUEST, command=()))
    assert caught.value.hint == "give a list of words, the program first: ['ls', '-la']"


@pytest.mark.parametrize(
    "changes",
    [
        {"vcpu_count": 1},
        {"vcpu_count": 32},
        {"mem_mib": 128},
        {"mem_mib": 65536},
        {"timeout_seconds": 1},
        {"timeout_seconds": 86400},
        {"ttl_seconds": 1},
        {"ttl_seconds": 86400},
        {"command": ("ls", "")},
    ],
)
def test_the_ends_of_the_ranges_are_allowed(changes: dict[str, Any]) -> None:
    check(replace(REQUEST, **changes))


def test_an_end_by_signal_counts_from_128() -> None:
    assert endings.exit_code(Exited(None, 1, False)) == 129
