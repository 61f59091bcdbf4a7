"""Progress as lines where nobody watches, and as one line written over and over where somebody does."""

import io
import os
import sys
from dataclasses import replace

import pytest

from pyro_mcp.cli.progress import ProgressPrinter, shown_progress
from pyro_mcp.models import NOTICE, Progress

STEP = Progress("pull", "download", "debian:12")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Called in the tests themselves: between set-up and call, pytest puts its own streams back."""
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((60, 20)))
    return stderr


def test_a_notice_is_a_line_of_its_own_everywhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    notice = Progress("seed", NOTICE, "", "2 sockets left out")
    with shown_progress() as show:
        show(Progress("seed", "copy", ""))
        show(notice)
    assert capsys.readouterr().err == "[seed] phase=copy\n[seed] 2 sockets left out\n"
    terminal = _terminal(monkeypatch)
    with shown_progress() as show:
        show(Progress("seed", "copy", ""))
        show(notice)
    assert terminal.getvalue() == "\rseed  copy\x1b[K\r\x1b[K[seed] 2 sockets left out\n"


def test_each_phase_is_one_line_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    printer = ProgressPrinter()
    printer.show(STEP)
    printer.show(replace(STEP, done=1, total=9, detail="git"))
    printer.show(replace(STEP, done=2, total=9, detail="curl"))
    printer.show(replace(STEP, phase="unpack", detail="a b"))
    printer.clear()
    assert capsys.readouterr() == (
        "",
        "[pull] phase=download environment=debian:12\n[pull] phase=unpack environment=debian:12 detail='a b'\n",
    )


def test_a_bar_where_somebody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    printer = ProgressPrinter()
    printer.show(replace(STEP, done=0, total=4))
    printer.show(replace(STEP, done=1, total=4))
    printer.show(replace(STEP, done=4, total=4))
    drawn = terminal.getvalue().split("\r")[1:]
    assert [line.count("#") for line in drawn] == [0, 6, 24]
    assert ["0%" in drawn[0], "25%" in drawn[1], "100%" in drawn[2]] == [True] * 3
    assert "\n" not in terminal.getvalue()


@pytest.mark.parametrize(("done", "total"), [(5, 4), (1, 0), (3, None)])
def test_odd_counts_do_not_break_the_bar(monkeypatch: pytest.MonkeyPatch, done: int, total: int | None) -> None:
    terminal = _terminal(monkeypatch)
    ProgressPrinter().show(replace(STEP, done=done, total=total))
    assert terminal.getvalue().count("#") <= 24
    assert "pull debian:12  download" in terminal.getvalue()


def test_the_line_never_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    ProgressPrinter().show(replace(STEP, detail="x" * 500))
    assert len(terminal.getvalue()) <= 59 + len("\r\x1b[K")


def test_clearing_leaves_a_clean_line_once(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    printer = ProgressPrinter()
    printer.clear()
    assert terminal.getvalue() == ""
    printer.show(STEP)
    printer.clear()
    printer.clear()
    assert terminal.getvalue().endswith("\r\x1b[K")
    assert terminal.getvalue().count("\r") == 2
