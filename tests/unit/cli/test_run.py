"""`pyro run`: what it asks of the SDK, what it prints where, and what it ends with."""

import json
import sys
from collections.abc import Iterator

import pytest

from pyro_mcp import phases
from pyro_mcp.cli.main import main
from pyro_mcp.errors import CommandNotStarted, Conflict
from pyro_mcp.events import OutputChunk
from pyro_mcp.models import (
    Phase,
    RunFinished,
    RunRequest,
)
from tests.unit.cli.fake_pyro import FakePyro, FakeStream


def test_run_for_people(fake: FakePyro, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "debian:12", "--mem-mib", "512", "--", "ls", "--json"]) == 3
    assert capfd.readouterr() == (
        "out\n",
        "[run] environment=debian:12 vmm=qemu exit_code=3 duration_ms=1234\n",
    )
    assert fake.asked == [(RunRequest("debian:12", ("ls", "--json"), mem_mib=512, stdin=True),)]


def test_a_run_tells_where_its_time_went_if_asked(
    fake: FakePyro, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Timed(FakeStream):
        def __init__(self) -> None:
            super().__init__()
            now = phases.now_us()
            self[:0] = [Phase("host", now, now), Phase("command", now, now)]

    monkeypatch.setattr(fake, "stream_in_vm", lambda request: fake.asked.append((request,)) or Timed())  # type: ignore[func-returns-value]
    assert main(["run", "debian:12", "--timings", "--", "ls"]) == 3
    captured = capfd.readouterr()
    assert captured.out == "out\n"
    _, heading, *rows, total = captured.err.splitlines()
    assert heading.split() == ["ms", "phase"]
    assert [row.split()[1] for row in rows] == ["request", "host", "command", "delivery"]
    assert total.endswith("in all")
    assert main(["run", "debian:12", "--timings", "--json", "--", "ls"]) == 3
    result = json.loads(capfd.readouterr().out)
    assert [phase["phase"] for phase in result["timings"]["phases"]] == ["request", "host", "command", "delivery"]
    assert [request.timings for (request,) in fake.asked] == [True, True]
    assert main(["run", "debian:12", "--json", "--", "ls"]) == 3
    assert "timings" not in json.loads(capfd.readouterr().out)


def test_a_run_that_fails_tells_how_far_it_got_and_then_why(
    fake: FakePyro, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(FakeStream):
        def __iter__(self) -> Iterator[object]:
            yield Phase("host", phases.now_us(), phases.now_us())
            raise CommandNotStarted("command_not_found", "no such program", exit_code=127)

    monkeypatch.setattr(fake, "stream_in_vm", lambda _request: Failing())
    assert main(["run", "debian:12", "--timings", "--", "nope"]) == 127
    out, err = capfd.readouterr()
    heading, *rows, total, why = err.splitlines()
    assert (out, heading.split(), total.endswith("in all")) == ("", ["ms", "phase"], True)
    assert [row.split()[1] for row in rows] == ["request", "host", "unfinished"]
    assert why == "pyro: error: no such program [command_not_found]"
    assert main(["run", "debian:12", "--timings", "--json", "--", "nope"]) == 127
    out, err = capfd.readouterr()
    timed, failed = map(json.loads, err.splitlines())
    assert (out, failed["error"]["code"]) == ("", "command_not_found")
    assert [phase["phase"] for phase in timed["timings"]["phases"]] == ["request", "host", "unfinished"]
    assert main(["run", "debian:12", "--", "nope"]) == 127
    assert capfd.readouterr() == ("", f"{why}\n")


def test_a_run_that_is_not_even_asked_for_tells_how_far_it_got(
    fake: FakePyro, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(_request: RunRequest) -> FakeStream:
        phases.ended("client")
        raise Conflict("daemon_busy", "a daemon is at work")

    monkeypatch.setattr(fake, "stream_in_vm", busy)
    assert main(["run", "debian:12", "--timings", "--", "ls"]) == 1
    _, *rows, _, _ = capfd.readouterr().err.splitlines()
    assert [row.split()[1] for row in rows] == ["client", "unfinished"]


def test_a_time_out_is_told_to_people(
    fake: FakePyro, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class TimedOut(FakeStream):
        def __init__(self) -> None:
            super().__init__()
            self[:] = [RunFinished("debian:12", "qemu", 124, True, 7654)]

    monkeypatch.setattr(fake, "stream_in_vm", lambda _request: TimedOut())
    assert main(["run", "debian:12", "--timeout-seconds", "7", "--", "ls"]) == 124
    first, second = capfd.readouterr().err.splitlines()
    assert first == "pyro: the command reached its limit of 7 s; give it more with --timeout-seconds"
    assert second.startswith("[run] ")
    assert main(["run", "debian:12", "--json", "--", "ls"]) == 124
    assert capfd.readouterr().err == ""


def test_run_into_a_full_disk(
    fake: FakePyro, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open("/dev/full", "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert main(["run", "debian:12", "--", "ls"]) == 1
    assert capfd.readouterr().err == "pyro: error: cannot write the output: No space left on device [cannot_write]\n"


def test_run_with_words_and_errors_into_a_full_disk(
    fake: FakePyro, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Complaining(FakeStream):
        def __init__(self) -> None:
            super().__init__()
            self.insert(0, OutputChunk("stderr", b"oh\n"))

    monkeypatch.setattr(fake, "stream_in_vm", lambda _request: Complaining())
    with open("/dev/full", "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        assert main(["run", "debian:12", "--", "ls"]) == 3
    assert capfd.readouterr().out == "out\n"


def test_run_for_programs(fake: FakePyro, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "debian:12", "--json", "--", "ls", "é"]) == 3
    out, err = capfd.readouterr()
    assert err == ""
    assert json.loads(out) == {
        "environment": "debian:12",
        "vmm": "qemu",
        "exit_code": 3,
        "timed_out": False,
        "duration_ms": 1234,
        "stdout": "out\n",
        "stderr": "",
    }
