"""What `pyro doctor` prints and ends with, for checks made up here."""

import asyncio
import json
import os
import signal

import pytest

from pyro_mcp.cli.main import main
from pyro_mcp.doctor import checks
from pyro_mcp.doctor.report import Row, failed, passed, warning
from pyro_mcp.doctor.run import Check

GOOD = passed("good", "all is well")
ODD = warning("odd-one", "something is odd", "do this")
BAD = failed("bad", "it is broken\n  | and this was said", "do that")


def found(monkeypatch: pytest.MonkeyPatch, *rows: Row) -> None:
    def check(row: Row) -> Check:
        async def examine() -> Row:
            return row

        return Check(row.name, examine)

    monkeypatch.setattr(checks, "all_checks", lambda _settings, _environment: tuple(check(row) for row in rows))


def test_rows_are_aligned_and_say_what_mends_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found(monkeypatch, GOOD, ODD, BAD)
    assert main(["doctor"]) == 1
    stdout, stderr = capsys.readouterr()
    assert stdout.splitlines() == [
        "PASS  good     all is well",
        "WARN  odd-one  something is odd",
        "               mend: do this",
        "FAIL  bad      it is broken",
        "                 | and this was said",
        "               mend: do that",
    ]
    assert stderr.startswith("[doctor] ok=false duration_ms=")


def test_a_warning_does_not_fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found(monkeypatch, GOOD, ODD)
    assert main(["doctor"]) == 0
    assert "ok=true" in capsys.readouterr().err


@pytest.mark.parametrize(("rows", "code"), [((GOOD, ODD), 0), ((GOOD, BAD), 1)])
def test_json_is_the_whole_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rows: tuple[Row, ...], code: int
) -> None:
    found(monkeypatch, *rows)
    assert main(["doctor", "--json"]) == code
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"ok", "rows", "duration_ms"}
    assert report["ok"] is (code == 0)
    assert [row["name"] for row in report["rows"]] == [row.name for row in rows]


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found(monkeypatch, BAD)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    main(["doctor"])
    coloured = capsys.readouterr().out
    assert coloured.startswith("\x1b[31mFAIL\x1b[0m  bad  it is broken\n")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    main(["doctor"])
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_it_in_order(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals, code: int
) -> None:
    cleaned = []

    async def examine() -> Row:
        try:
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)
        raise AssertionError("unreachable")

    monkeypatch.setattr(checks, "all_checks", lambda *_: (Check("endless", examine),))
    assert main(["doctor"]) == code
    assert cleaned == [True]
    assert "[interrupted]" in capsys.readouterr().err


def test_an_unknown_environment_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--environment", "debian:21"]) == 1
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert "[unknown_environment]" in stderr


def test_help_says_what_to_type_next(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["doctor", "-h"])
    assert "pyro run debian:12 -- git --version" in capsys.readouterr().out
