"""A run as seen from a terminal: what passes through, and how it can be ended."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Self, cast

import pytest

from pyro_mcp.cli import run_session
from pyro_mcp.cli.run_session import RunSession
from pyro_mcp.errors import DaemonFailed, GuestFailed, Interrupted, NotFound
from pyro_mcp.events import Event, OutputChunk
from pyro_mcp.models import Progress, RunAccepted, RunFinished, RunStarted

if TYPE_CHECKING:
    from pyro_mcp.sdk import RunStream

STARTED = RunStarted("qemu", 900)
FINISHED = RunFinished("debian:12", "qemu", 0, False, 1234)
Step = Event | OutputChunk | Callable[[], None]


class FakeRun:
    """A run whose events are scripted; a step that can be called is waited for before the next event comes."""

    def __init__(self, *steps: Step) -> None:
        self._steps = steps
        self.signals: list[int] = []
        self.input: list[bytes] = []
        self.signalled = threading.Semaphore(0)
        self.input_ended = threading.Event()
        self.cancelled = threading.Event()
        self.closed = False
        self.on_signal: Callable[[], None] = lambda: None

    def __iter__(self) -> Iterator[Event | OutputChunk]:
        for step in self._steps:
            if callable(step):
                step()
            else:
                yield step
            if self.cancelled.is_set():
                raise DaemonFailed("daemon_gone", "it went away")

    def signal(self, number: int) -> None:
        self.signals.append(number)
        self.signalled.release()
        self.on_signal()

    def send_input(self, parts: Iterable[bytes]) -> None:
        try:
            for part in parts:
                self.input.append(part)
        finally:
            self.input_ended.set()

    def cancel(self) -> None:
        self.cancelled.set()

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _session(run: FakeRun, *, keep_output: bool = False) -> RunSession[RunFinished]:
    return RunSession(cast("RunStream", run), RunFinished, keep_output=keep_output)


@pytest.fixture(autouse=True)
def handlers_are_put_back() -> Iterator[None]:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert signal.set_wakeup_fd(-1) == -1


def _send(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def test_output_passes_through_as_it_is(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    run = FakeRun(
        RunAccepted("1"), STARTED, OutputChunk("stdout", b"a\xff\n"), OutputChunk("stderr", b"b\x00"), FINISHED
    )
    assert _session(run).follow() == FINISHED
    assert capfdbinary.readouterr() == (b"a\xff\n", b"b\x00")
    assert run.closed


def test_output_can_be_kept_instead(capfd: pytest.CaptureFixture[str]) -> None:
    run = FakeRun(
        STARTED, OutputChunk("stdout", b"a\xff"), OutputChunk("stdout", b"b"), OutputChunk("stderr", b"c"), FINISHED
    )
    session = _session(run, keep_output=True)
    assert session.result(session.follow()) == {
        "environment": "debian:12",
        "vmm": "qemu",
        "exit_code": 0,
        "timed_out": False,
        "duration_ms": 1234,
        "stdout": "a\ufffdb",
        "stderr": "c",
    }
    assert capfd.readouterr() == ("", "")


def test_progress_goes_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    run = FakeRun(Progress("pull", "unpack", "debian:12"), STARTED, OutputChunk("stdout", b"out"), FINISHED)
    _session(run).follow()
    assert capfd.readouterr() == ("out", "[pull] phase=unpack environment=debian:12\n")


def test_input_is_passed_on_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"some input")
    os.close(writer)
    with os.fdopen(reader) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        run = FakeRun()
        run = FakeRun(STARTED, lambda: _wait(run.input_ended), FINISHED)
        _session(run).follow()
    assert run.input == [b"some input"]


def test_input_without_a_stdin_is_no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    run = FakeRun()
    run = FakeRun(STARTED, lambda: _wait(run.input_ended), FINISHED)
    _session(run).follow()
    assert run.input == []


def test_input_that_somebody_made_non_blocking_arrives_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)

    def write_late() -> None:
        os.write(writer, b"first ")
        time.sleep(0.05)
        os.write(writer, b"second")
        os.close(writer)

    with os.fdopen(reader) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        run = FakeRun()
        run = FakeRun(STARTED, write_late, lambda: _wait(run.input_ended), FINISHED)
        _session(run).follow()
    assert b"".join(run.input) == b"first second"


def test_input_that_nobody_wants_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = threading.Event()

    def refuse(_parts: Iterable[bytes]) -> None:
        tried.set()
        raise NotFound("unknown_run", "it has ended")

    run = FakeRun(STARTED, lambda: _wait(tried), FINISHED)
    monkeypatch.setattr(run, "send_input", refuse)
    assert _session(run).follow() == FINISHED


def test_input_that_never_comes_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        run = FakeRun(STARTED, FINISHED)
        assert _session(run).follow() == FINISHED
        assert not run.input_ended.is_set()
        os.close(writer)
        _wait(run.input_ended)  # nobody may still read from a descriptor whose number is used again


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_go_to_the_command(number: int, capfd: pytest.CaptureFixture[str]) -> None:
    run = FakeRun()
    run = FakeRun(STARTED, _send(number), lambda: _acquire(run.signalled), OutputChunk("stdout", b""), FINISHED)
    assert _session(run).follow() == FINISHED
    assert run.signals == [number]
    assert capfd.readouterr().err == ""
    assert not run.cancelled.is_set()


def test_a_command_that_ignores_two_interrupts_is_given_up_at_the_third(capfd: pytest.CaptureFixture[str]) -> None:
    run = FakeRun()

    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        _acquire(run.signalled)

    run = FakeRun(STARTED, interrupt, interrupt, _send(signal.SIGINT), lambda: _wait(run.cancelled), FINISHED)
    with pytest.raises(Interrupted) as caught:
        _session(run).follow()
    assert caught.value.exit_code == 130
    assert run.signals == [signal.SIGINT] * 2
    assert capfd.readouterr() == ("", "pyro: interrupt once more to give the command up\n")
    assert run.closed


def test_a_daemon_that_does_not_take_signals_can_be_given_up_all_the_same() -> None:
    """An agent that hangs does not answer, and the third interrupt must not wait behind the first."""
    run = FakeRun()
    never = threading.Event()

    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        _acquire(run.signalled)

    run = FakeRun(STARTED, interrupt, interrupt, _send(signal.SIGINT), lambda: _wait(run.cancelled), FINISHED)
    run.on_signal = lambda: _wait(never)
    with pytest.raises(Interrupted):
        _session(run).follow()
    never.set()


def test_many_terminations_are_all_passed_on_and_never_given_up() -> None:
    run = FakeRun()

    def terminate() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        _acquire(run.signalled)

    run = FakeRun(STARTED, *[terminate] * 5, FINISHED)
    assert _session(run).follow() == FINISHED
    assert run.signals == [signal.SIGTERM] * 5


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("before", [(), (RunAccepted("1"),), (Progress("pull", "unpack", "debian:12"),)])
def test_before_there_is_a_command_a_signal_ends_the_run(
    number: int, exit_code: int, before: tuple[Event, ...]
) -> None:
    run = FakeRun()
    run = FakeRun(*before, _send(number), lambda: _wait(run.cancelled), STARTED, FINISHED)
    with pytest.raises(Interrupted) as caught:
        _session(run).follow()
    assert (caught.value.code, caught.value.exit_code) == ("interrupted", exit_code)
    assert run.signals == []
    assert run.closed


def test_a_signal_for_a_command_that_has_just_ended_is_no_error() -> None:
    tried = threading.Event()

    def gone() -> None:
        tried.set()
        raise NotFound("unknown_run", "it has ended")

    run = FakeRun(STARTED, _send(signal.SIGTERM), lambda: _wait(tried), FINISHED)
    run.on_signal = gone
    assert _session(run).follow() == FINISHED


def test_an_error_of_the_run_is_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise GuestFailed("guest_gone", "it went away")

    run = FakeRun(STARTED, OutputChunk("stdout", b"half"), fail)
    with pytest.raises(GuestFailed):
        _session(run).follow()
    assert run.closed
    assert capfd.readouterr().out == "half"


def test_a_daemon_that_is_gone_without_our_doing_is_told_as_that() -> None:
    def fail() -> None:
        raise DaemonFailed("daemon_gone", "killed")

    with pytest.raises(DaemonFailed):
        _session(FakeRun(STARTED, fail)).follow()


def test_a_reader_that_goes_away_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        run = FakeRun(STARTED, OutputChunk("stdout", b"x"), FINISHED)
        with pytest.raises(BrokenPipeError):
            _session(run).follow()
    assert run.closed


def test_a_pipe_that_somebody_made_non_blocking_gets_everything() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    data = os.urandom(1 << 20)
    received = bytearray()

    def read() -> None:
        with os.fdopen(reader, "rb") as file:
            received.extend(file.read())

    reading = threading.Thread(target=read)
    reading.start()
    run_session._write_all(writer, data)
    os.close(writer)
    reading.join(30)
    assert received == data


def _wait(event: threading.Event) -> None:
    assert event.wait(30)


def _acquire(semaphore: threading.Semaphore) -> None:
    assert semaphore.acquire(timeout=30)
