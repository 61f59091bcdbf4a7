import pytest

from pyro_mcp.doctor import report
from pyro_mcp.doctor.report import REPORT_IT, Report, Row, Status
from pyro_mcp.errors import DaemonFailed, GuestFailed, HostUnfit

GOOD = report.passed("a", "fine")
ODD = report.warning("b", "odd", "do this")
BAD = report.failed("c", "bad", "do that")


@pytest.mark.parametrize("status", [Status.WARN, Status.FAIL])
def test_whatever_is_not_well_says_what_mends_it(status: Status) -> None:
    with pytest.raises(ValueError, match="do not go together"):
        Row("x", status, "something")


def test_what_is_well_needs_no_mending() -> None:
    with pytest.raises(ValueError, match="do not go together"):
        Row("x", Status.PASS, "something", "mend")


@pytest.mark.parametrize(("rows", "ok"), [((GOOD,), True), ((GOOD, ODD), True), ((GOOD, BAD, ODD), False)])
def test_only_a_failure_means_that_no_guest_can_run(rows: tuple[Row, ...], ok: bool) -> None:
    assert Report(rows, 1).ok is ok


def test_json_has_every_row_whole() -> None:
    assert Report((GOOD, BAD), 12).to_json() == {
        "ok": False,
        "rows": [
            {"name": "a", "status": "PASS", "found": "fine", "mend": None, "details": ()},
            {"name": "c", "status": "FAIL", "found": "bad", "mend": "do that", "details": ()},
        ],
        "duration_ms": 12,
    }


def test_an_errors_hint_is_what_mends_it() -> None:
    assert report.failed_with("x", HostUnfit("c", "no room", "make room")) == report.failed("x", "no room", "make room")
    assert report.failed_with("x", DaemonFailed("c", "died", "see log")).mend == "see log"


def test_a_guest_that_fails_does_not_send_in_circles() -> None:
    assert report.failed_with("x", GuestFailed("c", "died", "run `pyro doctor`")).mend == REPORT_IT
    assert report.failed_with("x", HostUnfit("c", "died")).mend == REPORT_IT


def test_lists_read_as_words() -> None:
    assert report.listed(["a"]) == "a"
    assert report.listed(["a", "b"]) == "a and b"
    assert report.listed(["a", "b", "c"]) == "a, b and c"
