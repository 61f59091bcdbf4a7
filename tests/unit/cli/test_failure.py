"""Whatever goes wrong is told once, on stderr alone, and becomes an exit code."""

import errno
import json
import os
import sys

import pytest

from pyro_mcp.cli.failure import reported
from pyro_mcp.errors import GuestFailed, Interrupted, NotFound, PyroError


def _run(error: BaseException | None, *, as_json: bool = False, workspace: str | None = None) -> int:
    with reported(as_json) as outcome:
        outcome.workspace = workspace
        outcome.exit_code = 7
        if error is not None:
            raise error
    return outcome.exit_code


def test_without_an_error_the_commands_own_code_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(None) == 7
    assert capsys.readouterr() == ("", "")


def test_an_error_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(NotFound("unknown_environment", "there is no such thing", "look again")) == 1
    assert capsys.readouterr() == (
        "",
        "pyro: error: there is no such thing [unknown_environment]\n  hint: look again\n",
    )


def test_an_error_without_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(GuestFailed("guest_gone", "it went away")) == 2
    assert capsys.readouterr().err == "pyro: error: it went away [guest_gone]\n"


def test_an_error_of_several_lines_has_its_code_in_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(NotFound("patch_failed", "hunk 2 does not fit\n-one\n  | two\n", "read the file")) == 1
    assert capsys.readouterr().err == (
        "pyro: error: hunk 2 does not fit [patch_failed]\n  -one\n  | two\n  hint: read the file\n"
    )


@pytest.mark.parametrize(("workspace", "shown"), [(None, "W"), ("demo", "demo"), ("w 1", "'w 1'")])
def test_a_hint_names_the_workspace_that_was_typed(
    capsys: pytest.CaptureFixture[str], workspace: str | None, shown: str
) -> None:
    error = NotFound("file_not_found", "no W`", "`pyro workspace file list W`, then `pyro workspace stop W`")
    assert _run(error, workspace=workspace) == 1
    hint = f"`pyro workspace file list {shown}`, then `pyro workspace stop {shown}`"
    assert capsys.readouterr().err == f"pyro: error: no W` [file_not_found]\n  hint: {hint}\n"


def test_an_error_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(NotFound("unknown_environment", "no 'é'", "look again"), as_json=True) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err) == {"error": {"code": "unknown_environment", "message": "no 'é'", "hint": "look again"}}


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (KeyboardInterrupt(), 130),
        (Interrupted("interrupted", "interrupted", exit_code=143), 143),
        (PyroError("ttl_expired", "time is up", exit_code=124), 124),
    ],
)
def test_exit_codes(error: BaseException, exit_code: int) -> None:
    assert _run(error) == exit_code


@pytest.mark.parametrize("as_json", [True, False])
def test_a_fault_of_ours_says_so_with_its_place(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    assert _run(ZeroDivisionError("boom"), as_json=as_json) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "ZeroDivisionError: boom" in err
    last = err.splitlines()[-1]
    assert (json.loads(last)["error"]["code"] == "internal") if as_json else ("[internal]" in last)


def test_a_reader_that_went_away_is_silent(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        stdout.write("nobody reads this")
        assert _run(None) == 141
        assert os.path.samefile(f"/proc/self/fd/{stdout.fileno()}", os.devnull)
    assert capsys.readouterr().err == ""


def test_output_that_cannot_be_written_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open("/dev/full", "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        stdout.write("a result")
        assert _run(None) == 1
    assert capsys.readouterr().err == "pyro: error: cannot write the output: No space left on device [cannot_write]\n"


def test_a_file_that_cannot_be_written_is_not_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(OSError(errno.ENOSPC, "No space left on device", "a file")) == 2
    assert "[internal]" in capsys.readouterr().err


@pytest.mark.parametrize("error", [NotFound("unknown_environment", "no such thing", "look again"), ZeroDivisionError()])
def test_words_that_nobody_could_read_change_nothing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    with open("/dev/full", "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        assert _run(error) == getattr(error, "exit_code", 2)
        assert os.path.samefile(f"/proc/self/fd/{stderr.fileno()}", os.devnull)
