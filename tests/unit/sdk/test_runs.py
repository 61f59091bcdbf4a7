"""What programs import: results and errors as typed objects, over a real server and the real client."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import TypeVar

import pytest

import pyro_mcp
from pyro_mcp import Pyro, PyroError, phases
from pyro_mcp.config import Settings
from pyro_mcp.daemon.client import DaemonClient
from pyro_mcp.daemon.streaming import Emit
from pyro_mcp.errors import CommandNotStarted, DaemonFailed, NotFound
from pyro_mcp.events import OutputChunk
from pyro_mcp.images.catalog import CATALOG
from pyro_mcp.models import (
    EnvironmentInfo,
    Phase,
    Progress,
    PruneReport,
    RunAccepted,
    RunFinished,
    RunRequest,
    RunStarted,
)
from pyro_mcp.sdk import RunResult
from pyro_mcp.workspace import environments
from pyro_mcp.workspace.control import RunControl
from tests.support.old_daemon import hello, old_daemon
from tests.support.served import Run, served

T = TypeVar("T")
STARTED = RunStarted("qemu", 900)
TIMED = RunRequest("debian:12", ("ls",), timings=True)
FINISHED = RunFinished("debian:12", "qemu", 3, False, 1234)
PROGRESS = Progress("pull", "unpack", "debian:12", done=1, total=2, unit="packages")
REQUEST = RunRequest("debian:12", ("true",))


async def _said(run: Run, settings: Settings, monkeypatch: pytest.MonkeyPatch, use: Callable[[Pyro], T]) -> T:
    """What `use` returns against a server whose runs are scripted."""

    def used() -> T:
        with Pyro(settings) as pyro:
            return use(pyro)

    async with served(settings, monkeypatch, run):
        return await asyncio.to_thread(used)


async def test_a_run_gives_everything_that_was_written_and_how_it_ended(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[RunRequest] = []

    async def run(request: RunRequest, _control: RunControl, emit: Emit) -> None:
        asked.append(request)
        await emit(PROGRESS)
        await emit(STARTED)
        await emit(OutputChunk("stdout", b"out\xff"))
        await emit(OutputChunk("stderr", b"err"))
        await emit(OutputChunk("stdout", b"more"))
        await emit(FINISHED)

    heard: list[Progress] = []

    def use(pyro: Pyro) -> RunResult:
        return pyro.run_in_vm(
            "debian:12",
            ["ls", "-l"],
            vcpu_count=2,
            mem_mib=512,
            timeout_seconds=5,
            ttl_seconds=60,
            on_progress=heard.append,
        )

    result = await _said(run, settings, monkeypatch, use)
    assert result == RunResult("debian:12", "qemu", 3, False, 1234, b"out\xffmore", b"err")
    assert asked == [RunRequest("debian:12", ("ls", "-l"), 2, 512, 5, 60, network=False, stdin=False)]
    assert heard == [PROGRESS]


async def test_a_run_tells_where_its_time_went_if_asked(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(_request: RunRequest, _control: RunControl, emit: Emit) -> None:
        phases.ended("work")
        await emit(FINISHED)

    def use(pyro: Pyro) -> tuple[RunResult, RunResult]:
        return pyro.run_in_vm("debian:12", ["ls"], timings=True), pyro.run_in_vm("debian:12", ["ls"])

    asked, not_asked = await _said(run, settings, monkeypatch, use)
    host, work = asked.phases
    assert (host.name, work.name, work.began_us) == ("host", "work", host.ended_us)
    assert not_asked.phases == ()


async def test_a_run_that_fails_has_told_where_its_time_went(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(_request: RunRequest, _control: RunControl, _emit: Emit) -> None:
        phases.ended("work")
        raise CommandNotStarted("command_not_found", "no such file", exit_code=127)

    def use(pyro: Pyro) -> list[str]:
        told: list[object] = []
        with pyro.stream_in_vm(TIMED) as following, pytest.raises(CommandNotStarted):
            told.extend(following)
        return [event.name if isinstance(event, Phase) else type(event).__name__ for event in told]

    assert await _said(run, settings, monkeypatch, use) == ["RunAccepted", "host", "work"]


async def test_a_run_that_hangs_has_told_where_its_time_went(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(_request: RunRequest, _control: RunControl, _emit: Emit) -> None:
        phases.ended("work")
        await asyncio.Event().wait()

    def use(pyro: Pyro) -> list[Phase]:
        with pyro.stream_in_vm(TIMED) as following:
            _, *told = islice(following, 3)
        return [event for event in told if isinstance(event, Phase)]

    assert [phase.name for phase in await _said(run, settings, monkeypatch, use)] == ["host", "work"]


async def test_an_error_of_the_run_is_raised_as_what_it_is(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(_request: RunRequest, _control: RunControl, _emit: Emit) -> None:
        raise CommandNotStarted("command_not_found", "no such file", "is it installed?", exit_code=127)

    with pytest.raises(CommandNotStarted) as caught:
        await _said(run, settings, monkeypatch, lambda pyro: pyro.run_in_vm("debian:12", ["nope"]))
    assert (caught.value.code, caught.value.hint, caught.value.exit_code) == (
        "command_not_found",
        "is it installed?",
        127,
    )


async def test_a_run_is_followed_and_spoken_to_while_it_goes_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Command:
        def __init__(self) -> None:
            self.taken = b""
            self.signals: list[int] = []
            self.ended = asyncio.Event()

        async def write_stdin(self, data: bytes) -> None:
            self.taken += data

        async def close_stdin(self) -> None:
            self.ended.set()

        async def signal(self, number: int) -> None:
            self.signals.append(number)

    command = Command()

    async def run(_request: RunRequest, control: RunControl, emit: Emit) -> None:
        control.attach(command)  # type: ignore[arg-type]
        await emit(STARTED)
        await command.ended.wait()
        await emit(OutputChunk("stdout", command.taken))
        await emit(FINISHED)

    def use(pyro: Pyro) -> list[object]:
        with pyro.stream_in_vm(replace(REQUEST, stdin=True)) as run:
            events: list[object] = []
            for event in run:
                events.append(event)
                if isinstance(event, RunStarted):
                    run.signal(15)
                    run.send_input(iter([b"first ", b"", b"second"]))
            return events

    accepted, *events = await _said(run, settings, monkeypatch, use)
    assert isinstance(accepted, RunAccepted)
    assert events == [STARTED, OutputChunk("stdout", b"first second"), FINISHED]
    assert command.signals == [15]


async def test_a_signal_after_the_end_finds_no_run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(_request: RunRequest, _control: RunControl, emit: Emit) -> None:
        await emit(FINISHED)

    def use(pyro: Pyro) -> None:
        with pyro.stream_in_vm(REQUEST) as run:
            list(run)
            run.signal(15)

    with pytest.raises(NotFound) as caught:
        await _said(run, settings, monkeypatch, use)
    assert caught.value.code == "unknown_run"


@pytest.mark.parametrize("way", ["with block", "close"])
async def test_leaving_a_run_stops_it(settings: Settings, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    stopped = asyncio.Event()

    async def run(_request: RunRequest, _control: RunControl, emit: Emit) -> None:
        await emit(STARTED)
        try:
            await asyncio.sleep(1000)
        finally:
            stopped.set()

    def use(pyro: Pyro) -> None:
        run = pyro.stream_in_vm(REQUEST)
        events = iter(run)
        assert isinstance(next(events), RunAccepted)
        assert next(events) == STARTED
        if way == "close":
            run.close()
        else:
            with run:
                pass

    async with served(settings, monkeypatch, run):
        await asyncio.to_thread(use, Pyro(settings))
        async with asyncio.timeout(30):
            await stopped.wait()


async def test_cancelling_from_another_thread_stops_the_run_and_whoever_follows_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = asyncio.Event()

    async def run(_request: RunRequest, _control: RunControl, emit: Emit) -> None:
        await emit(STARTED)
        try:
            await asyncio.sleep(1000)
        finally:
            stopped.set()

    def use(pyro: Pyro) -> None:
        with pyro.stream_in_vm(REQUEST) as run:
            for event in run:
                if isinstance(event, RunStarted):
                    threading.Thread(target=run.cancel).start()

    async with served(settings, monkeypatch, run):
        with pytest.raises(DaemonFailed) as caught:
            await asyncio.to_thread(use, Pyro(settings))
        assert caught.value.code == "daemon_gone"
        async with asyncio.timeout(30):
            await stopped.wait()


async def test_output_that_is_not_read_holds_the_run_back(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = 0
    total = 64 << 20
    held = threading.Event()

    async def run(_request: RunRequest, _control: RunControl, emit: Emit) -> None:
        nonlocal sent
        await emit(STARTED)
        while sent < total:
            await emit(OutputChunk("stdout", bytes(1 << 16)))
            sent += 1 << 16
        await emit(FINISHED)

    def use(pyro: Pyro) -> int:
        with pyro.stream_in_vm(REQUEST) as run:
            events = iter(run)
            next(events)
            next(events)
            held.wait(30)
            return sum(len(event.data) for event in events if isinstance(event, OutputChunk))

    async with served(settings, monkeypatch, run):
        using = asyncio.create_task(asyncio.to_thread(use, Pyro(settings)))
        before = -1
        while sent == 0 or before != sent:  # until nothing moves any more
            before = sent
            await asyncio.sleep(0.05)
        assert sent < 8 << 20
        held.set()
        assert await using == total


@pytest.mark.parametrize("with_start", [True, False])
def test_a_daemon_that_dies_in_the_middle_of_a_run(settings: Settings, with_start: bool) -> None:
    body = b'{"type": "accepted", "run_id": "a"}'
    accepted = b"\x03" + len(body).to_bytes(4, "big") + body
    stream = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    if with_start:
        stream += f"{len(accepted):x}\r\n".encode() + accepted + b"\r\n0\r\n\r\n"

    def answer(path: str, _body: bytes) -> bytes:
        return hello(settings, version=pyro_mcp.__version__) if path == "/v1/hello" else stream

    with old_daemon(settings, answer), Pyro(settings) as pyro, pytest.raises(DaemonFailed) as caught:
        pyro.run_in_vm("debian:12", ["true"])
    assert caught.value.code == "daemon_gone"
    assert caught.value.hint == "run it again: its machine ended with the daemon"
    assert caught.value.exit_code == 2


def test_environments(settings: Settings, daemon_client: DaemonClient) -> None:
    pyro = Pyro(settings)
    listed = pyro.list_environments()
    assert [info.name for info in listed] == [environment.name for environment in CATALOG]
    assert all(isinstance(info, EnvironmentInfo) and not info.installed for info in listed)
    assert pyro.inspect_environment("debian:12") == listed[0]
    assert pyro.prune_environments(dry_run=True) == PruneReport((), 0, True)
    assert pyro.prune_environments() == PruneReport((), 0, False)
    for call in (pyro.inspect_environment, pyro.pull_environment):
        for name in ("debian:13", "debian/12", "", "a b?c#d", "%2e%2e", "é", "x" * 3000, "\udcff"):
            with pytest.raises(NotFound) as caught:
                call(name)
            assert caught.value.code == "unknown_environment"
    with pytest.raises(NotFound, match="'debian:13'"):
        pyro.run_in_vm("debian:13", ["true"])


async def test_a_pull_reports_its_progress_and_gives_what_was_installed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = EnvironmentInfo("debian:12", "about", True, ("git",), "sha", 5, "here", "now", ("git 1",))
    asked: list[tuple[str, str | None]] = []

    async def pull(_images: object, name: str, source: str | None, report: Emit) -> EnvironmentInfo:
        asked.append((name, source))
        await report(PROGRESS)
        return installed

    async def run(_request: RunRequest, _control: RunControl, _emit: Emit) -> None:
        raise AssertionError("nothing is to be run")

    monkeypatch.setattr(environments, "pull_environment", pull)
    heard: list[Progress] = []

    def use(pyro: Pyro) -> tuple[EnvironmentInfo, EnvironmentInfo]:
        first = pyro.pull_environment("debian:12", source="https://mirror.invalid/debian", on_progress=heard.append)
        return first, pyro.pull_environment("debian:12")

    assert await _said(run, settings, monkeypatch, use) == (installed, installed)
    assert asked == [("debian:12", "https://mirror.invalid/debian"), ("debian:12", None)]
    assert heard == [PROGRESS]


def test_a_daemon_that_dies_in_the_middle_of_a_pull(settings: Settings) -> None:
    stream = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"

    def answer(path: str, _body: bytes) -> bytes:
        return hello(settings, version=pyro_mcp.__version__) if path == "/v1/hello" else stream

    with old_daemon(settings, answer), Pyro(settings) as pyro, pytest.raises(DaemonFailed) as caught:
        pyro.pull_environment("debian:12")
    assert caught.value.code == "daemon_gone"
    assert "`pyro workspace list`" in str(caught.value.hint)


def test_settings_come_from_the_environment_unless_given(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Pyro()._daemon.settings == settings
    monkeypatch.setenv("PYRO_VMM", "nonsense")
    with pytest.raises(PyroError, match="PYRO_VMM"):
        Pyro()
    assert Pyro(settings)._daemon.settings == settings


def _parts(ended: list[bool]) -> Iterator[bytes]:
    try:
        while True:
            yield bytes(1 << 16)
    finally:
        ended.append(True)


async def test_input_that_nobody_takes_any_more_ends_with_an_error_not_for_ever(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = asyncio.Event()

    async def run(_request: RunRequest, _control: RunControl, emit: Emit) -> None:
        await emit(STARTED)
        await go.wait()
        await emit(FINISHED)

    ended: list[bool] = []

    def use(pyro: Pyro) -> None:
        with pyro.stream_in_vm(replace(REQUEST, stdin=True)) as run:
            events = iter(run)
            next(events)
            next(events)
            loop.call_soon_threadsafe(go.set)
            with pytest.raises(PyroError):
                run.send_input(_parts(ended))

    loop = asyncio.get_running_loop()
    await _said(run, settings, monkeypatch, use)
    assert ended == [True]
