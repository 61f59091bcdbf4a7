"""Events and errors arrive as what they were sent as."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_mcp.errors import CommandNotStarted, DaemonFailed, GuestFailed, InvalidRequest, NotFound, PyroError
from pyro_mcp.events import error_to_json, event_from_json, event_to_json
from pyro_mcp.models import EnvironmentInfo, Phase, Progress, RunAccepted, RunFinished, RunStarted
from pyro_mcp.workspace_models import ExecInfo, ExecResult, ExecStarted, ExportReport, SyncReport, WorkspaceInfo

_KINDS = (
    *(RunAccepted, RunStarted, RunFinished, Progress, Phase, EnvironmentInfo),
    *(WorkspaceInfo, ExecStarted, ExecInfo, ExecResult, SyncReport, ExportReport),
)
_events: st.SearchStrategy[Any] = st.sampled_from(_KINDS).flatmap(st.from_type)


def _over_the_wire(content: dict[str, object]) -> dict[str, Any]:
    arrived = json.loads(json.dumps(content))
    assert isinstance(arrived, dict)
    return arrived


@given(_events)
def test_every_event_arrives_unchanged(event: Any) -> None:
    assert event_from_json(_over_the_wire(event_to_json(event))) == event


@pytest.mark.parametrize(
    "error",
    [
        NotFound("unknown_environment", "there is no environment named 'x'", "did you mean debian:12?"),
        InvalidRequest("out_of_range", "--mem-mib is 1"),
        CommandNotStarted("command_not_found", "no such file", None, exit_code=127),
        GuestFailed("guest_gone", "the guest went away"),
        PyroError("ttl_expired", "time is up", exit_code=124),
    ],
)
def test_an_error_is_raised_as_it_was(error: PyroError) -> None:
    with pytest.raises(type(error)) as caught:
        event_from_json(_over_the_wire(error_to_json(error)))
    assert caught.value.to_wire() == error.to_wire()


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"type": "unheard"},
        {"type": None},
        {"type": ["error"]},
        {"type": "accepted"},
        {"type": "accepted", "run_id": 5},
        {"type": "accepted", "run_id": "1", "more": 1},
        {"type": "error"},
        {"type": "error", "kind": "NotFound", "code": "c", "message": "m", "hint": None, "exit_code": "1"},
    ],
)
def test_rubbish_is_the_daemons_fault(content: dict[str, object]) -> None:
    with pytest.raises(DaemonFailed) as caught:
        event_from_json(content)
    assert caught.value.code == "daemon_protocol"


def test_a_long_unknown_type_is_not_repeated_in_full() -> None:
    with pytest.raises(DaemonFailed) as caught:
        event_from_json({"type": "x" * 10_000})
    assert len(caught.value.message) < 200
