"""Where the time of a command went, as it is shown."""

import time

import pytest

from pyro_mcp import phases
from pyro_mcp.cli.timings import Timings
from pyro_mcp.models import Phase
from pyro_mcp.phases import PhaseRecorder


@pytest.fixture
def timings() -> Timings:
    """Those of a command of 70 ms."""
    timings = Timings()
    timings.recorder = PhaseRecorder(1_000)
    timings.recorder.end("client", 61_250)
    timings.take_in(Phase("unheard", 61_260, 70_900))
    timings.recorder.end("delivery", 71_000)
    return timings


def test_the_table_adds_up(timings: Timings, capsys: pytest.CaptureFixture[str]) -> None:
    timings.show()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "       ms  phase",
        "     60.2  client        this command starts and reads its arguments",
        "      0.0  request       the request gets there",
        "      9.6  unheard",
        "      0.1  delivery      the end gets here",
        "     70.0  in all",
    ]


def test_programs_get_the_same(timings: Timings) -> None:
    assert timings.as_json() == {
        "total_ms": 70.0,
        "phases": [
            {"phase": "client", "ms": 60.25},
            {"phase": "request", "ms": 0.01},
            {"phase": "unheard", "ms": 9.64},
            {"phase": "delivery", "ms": 0.1},
        ],
    }


def test_the_first_phase_begins_with_this_process() -> None:
    timings = Timings()
    timings.take_in(Phase("work", phases.now_us(), phases.now_us()))
    timings.end()
    first, *_, last = timings.recorder.phases
    assert first.ended_us - first.began_us >= time.process_time_ns() // 2000, "it runs for as long as it computes"
    assert (first.name, last.name) == ("request", "delivery")
    assert last.ended_us <= phases.now_us()
