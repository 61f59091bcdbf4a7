"""What a client does before its question, and when the daemon ends before it has answered."""

from contextlib import nullcontext
from unittest.mock import Mock

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.daemon import client
from pyro_mcp.daemon.client import DaemonClient
from pyro_mcp.daemon.gone import DaemonGone
from pyro_mcp.daemon.http import whose
from pyro_mcp.version import __version__
from tests.support.old_daemon import hello, http, old_daemon


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of daemons of which the first ends in the middle of the request."""
    seen: list[str] = []

    def ask(_connection: object, method: str, path: str, *_rest: object) -> str:
        seen.append(f"{method} {path}")
        if len(seen) == 1:
            raise DaemonGone
        return "answer"

    monkeypatch.setattr(client, "ask", ask)
    monkeypatch.setattr(DaemonClient, "_connection", lambda _client, _connect: nullcontext(Mock()))
    return seen


def test_a_question_is_asked_again(settings: Settings, asked: list[str]) -> None:
    assert DaemonClient(settings).ask("GET", "/v1/workspaces") == "answer"
    assert asked == ["GET /v1/workspaces"] * 2


def test_an_order_is_not_given_twice(settings: Settings, asked: list[str]) -> None:
    with pytest.raises(DaemonGone):
        DaemonClient(settings).ask("POST", "/v1/workspaces")
    assert asked == ["POST /v1/workspaces"]


@pytest.mark.parametrize(("method", "paths"), [("GET", ["/v1/x"]), ("POST", ["/v1/hello", "/v1/x"])])
def test_only_who_gives_orders_asks_first_who_is_there(settings: Settings, method: str, paths: list[str]) -> None:
    def answer(path: str, _body: bytes) -> bytes:
        if path == "/v1/hello":
            return hello(settings, version=__version__)
        return http("done", daemon=whose(__version__, settings.describe()))

    with old_daemon(settings, answer) as daemon:
        assert DaemonClient(settings).ask(method, "/v1/x") == "done"
    assert daemon.asked == paths


def test_a_daemon_is_known_by_its_settings_letter_by_letter() -> None:
    assert whose("1.0", "home='/A'") != whose("1.0", "home='/a'")
    assert whose("1.0", "home='/ä\\n'").isascii()
