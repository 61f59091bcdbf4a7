"""What a client does when the daemon ends before it has answered."""

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.daemon.client import DaemonClient
from pyro_mcp.daemon.gone import DaemonGone


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of daemons of which the first ends in the middle of the request."""
    seen: list[str] = []

    def ask(_client: DaemonClient, method: str, path: str, *_rest: object) -> str:
        seen.append(f"{method} {path}")
        if len(seen) == 1:
            raise DaemonGone
        return "answer"

    monkeypatch.setattr(DaemonClient, "_ask", ask)
    return seen


def test_a_question_is_asked_again(settings: Settings, asked: list[str]) -> None:
    assert DaemonClient(settings).ask("GET", "/v1/workspaces") == "answer"
    assert asked == ["GET /v1/workspaces"] * 2


def test_an_order_is_not_given_twice(settings: Settings, asked: list[str]) -> None:
    with pytest.raises(DaemonGone):
        DaemonClient(settings).ask("POST", "/v1/workspaces")
    assert asked == ["POST /v1/workspaces"]
