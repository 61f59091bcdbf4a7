"""`workspace exec` and `workspace logs`: what passes through, and how it ends."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Self

import pytest

from pyro_mcp.cli.main import main
from pyro_mcp.errors import CommandNotStarted
from pyro_mcp.events import OutputChunk
from pyro_mcp.workspace_models import ExecInfo, ExecRequest, ExecStarted, OutputPage
from tests.support.fake_workspaces import ENDED
from tests.unit.cli.workspace.conftest import FakePyro

Captured = pytest.CaptureFixture[str]


class FakeExec:
    """A command that writes a little and ends as it is told to."""

    def __init__(self, ended: ExecInfo) -> None:
        self._ended = ended

    def __iter__(self) -> Iterator[object]:
        yield ExecStarted(self._ended.exec_id)
        yield OutputChunk("stdout", b"out\n")
        yield OutputChunk("stderr", b"oh\n")
        yield self._ended

    def send_input(self, parts: object) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_exec_for_people(fake: FakePyro, capfd: Captured) -> None:
    fake.answers["stream_in_workspace"] = FakeExec(ENDED)
    assert main(["workspace", "exec", "demo", "--timeout-seconds", "7", "--", "ls", "--json"]) == 3
    assert capfd.readouterr() == ("out\n", "oh\n[exec] exec_id=x-1f3a9c exit_code=3 duration_ms=1234\n")
    request = ExecRequest(("ls", "--json"), 7, stdin=True)
    assert fake.asked == [("stream_in_workspace", {"workspace": "demo", "request": request})]


def test_exec_for_programs(fake: FakePyro, capfd: Captured) -> None:
    fake.answers["stream_in_workspace"] = FakeExec(ENDED)
    assert main(["workspace", "exec", "demo", "--json", "--", "ls"]) == 3
    out, err = capfd.readouterr()
    assert err == ""
    assert json.loads(out) == {
        "exec_id": "x-1f3a9c",
        "workspace_id": "w-2k7m",
        "command": ["ls", "-l"],
        "status": "exited",
        "started_at": "2026-01-02T03:04:06+00:00",
        "exit_code": 3,
        "duration_ms": 1234,
        "output_bytes": 9,
        "stdout": "out\n",
        "stderr": "oh\n",
    }


@pytest.mark.parametrize(
    ("status", "code", "exit_code"), [("timed_out", 124, 124), ("cancelled", 143, 143), ("lost", None, 1)]
)
def test_other_ends(fake: FakePyro, capfd: Captured, status: str, code: int | None, exit_code: int) -> None:
    fake.answers["stream_in_workspace"] = FakeExec(replace(ENDED, status=status, exit_code=code))
    assert main(["workspace", "exec", "demo", "--timeout-seconds", "7", "--", "ls"]) == exit_code
    told = "pyro: the command reached its limit of 7 s; give it more with --timeout-seconds\n"
    assert (told in capfd.readouterr().err) is (status == "timed_out")


@pytest.mark.parametrize("code", [126, 127])
def test_a_command_that_cannot_start(fake: FakePyro, capfd: Captured, code: int) -> None:
    fake.answers["stream_in_workspace"] = CommandNotStarted("command_not_found", "no such file", exit_code=code)
    assert main(["workspace", "exec", "demo", "--", "nope"]) == code
    assert capfd.readouterr() == ("", "pyro: error: no such file [command_not_found]\n")


def test_a_command_that_is_not_utf8(fake: FakePyro, capfd: Captured) -> None:
    assert main(["workspace", "exec", "demo", "--", "\udcff"]) == 1
    assert "[bad_command]" in capfd.readouterr().err
    assert fake.asked == []


def test_the_history(fake: FakePyro, capsys: Captured) -> None:
    running = ExecInfo(
        "x-2", "w-2k7m", ("sh", "-c", "echo 'a\nb' \x1b[31m" + "x" * 200), "running", "2026-01-02T03:04:06"
    )
    fake.answers["workspace_logs"] = (ENDED, running)
    assert main(["workspace", "logs", "demo"]) == 0
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["EXEC", "ID", "STATUS"]
    assert first.split() == ["x-1f3a9c", "exited", "3", "1.2", "s", "9", "B", "2026-01-02", "03:04", "UTC", "ls", "-l"]
    assert second.split()[:4] == ["x-2", "running", "-", "-"]
    assert second.endswith("xxx...")
    assert second.isprintable()
    assert main(["workspace", "logs", "demo", "--json"]) == 0
    assert [row["exec_id"] for row in json.loads(capsys.readouterr().out)] == ["x-1f3a9c", "x-2"]


def test_no_history(fake: FakePyro, capsys: Captured) -> None:
    fake.answers["workspace_logs"] = ()
    assert main(["workspace", "logs", "demo"]) == 0
    assert capsys.readouterr() == ("", "no command has run in it\n")
    assert main(["workspace", "logs", "demo", "--json"]) == 0
    assert capsys.readouterr() == ("[]\n", "")


class Output:
    """A command's output, given out in pages of at most ten bytes."""

    def __init__(self, fake: FakePyro, data: bytes) -> None:
        self._data = data
        self._fake = fake
        fake.answers["read_command_output"] = self

    def __call__(self, _on_progress: object) -> OutputPage:
        asked: dict[str, Any] = self._fake.asked[-1][1]
        offset = asked.get("offset", 0)
        end = min(offset + min(asked["limit"], 10), len(self._data))
        more = end if end < len(self._data) else None
        return OutputPage("x-1", offset, self._data[offset:end], len(self._data), running=False, next_offset=more)


TEXT = b"0123456789abcdefghijklmnop"


@pytest.mark.parametrize(
    ("flags", "shown", "next_offset"),
    [
        ([], TEXT, "none"),
        (["--offset", "20"], TEXT[20:], "none"),
        (["--limit", "12"], TEXT[:12], "12"),
        (["--offset", "5", "--limit", "3"], TEXT[5:8], "8"),
        (["--tail-bytes", "11"], TEXT[-11:], "none"),
        (["--tail-bytes", "1000"], TEXT, "none"),
    ],
)
def test_the_output_of_a_command(
    fake: FakePyro, capsysbinary: pytest.CaptureFixture[bytes], flags: list[str], shown: bytes, next_offset: str
) -> None:
    Output(fake, TEXT)
    assert main(["workspace", "logs", "demo", "x-1", *flags]) == 0
    out, err = capsysbinary.readouterr()
    assert out == shown
    assert err.decode() == f"[logs] exec_id=x-1 next_offset={next_offset} total_bytes=26 running=false\n"


@pytest.mark.parametrize(
    "words",
    [
        ["demo", "--offset", "5", "x-1", "--limit=3"],
        ["demo", "--limit=3", "x-1", "--offset", "5"],
        ["--limit", "3", "demo", "--offset=5", "x-1"],
        ["demo", "--offset=5", "--limit=3", "--", "x-1"],
    ],
)
def test_flags_stand_anywhere(fake: FakePyro, capsysbinary: pytest.CaptureFixture[bytes], words: list[str]) -> None:
    Output(fake, TEXT)
    assert main(["workspace", "logs", *words]) == 0
    assert capsysbinary.readouterr().out == TEXT[5:8]


def test_a_flag_without_its_value(fake: FakePyro, capsys: Captured) -> None:
    assert main(["workspace", "logs", "demo", "x-1", "--offset"]) == 1
    assert "argument --offset: expected one argument" in capsys.readouterr().err


def test_the_output_of_a_command_for_programs(fake: FakePyro, capsys: Captured) -> None:
    Output(fake, b"\xff" + TEXT)
    assert main(["workspace", "logs", "demo", "x-1", "--grep", "a.c", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "exec_id": "x-1",
        "next_offset": None,
        "total_bytes": 27,
        "running": False,
        "output": "\ufffd" + TEXT.decode(),
    }
    assert {given["grep"] for _, given in fake.asked} == {"a.c"}


@pytest.mark.parametrize("count", ["0", "-1"])
def test_less_than_the_last_byte(fake: FakePyro, capsys: Captured, count: str) -> None:
    assert main(["workspace", "logs", "demo", "x-1", f"--tail-bytes={count}"]) == 1
    assert "[out_of_range]" in capsys.readouterr().err
