"""What is answered before the SDK is there: the same as the SDK would say, or nothing at all."""

import json
from typing import Any

import pytest
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from pyro_mcp.cli.commands import mcp as command
from pyro_mcp.mcp.front import Front, Step, answers_path, load_answers
from pyro_mcp.mcp.generate import answers_of, rendered
from pyro_mcp.mcp.profiles import PROFILES

ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
OPENING = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}


@pytest.fixture
def front() -> Front:
    return Front(load_answers("workspace-core"))


def asked(front: Front, method: str, params: object = None, *, request_id: object = 1) -> Step:
    """One request."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "id": request_id, "method": method}
    if params is not None:
        message["params"] = params
    return front.take(json.dumps(message).encode())


def told(front: Front, method: str) -> Step:
    """One notification."""
    return front.take(json.dumps({"jsonrpc": "2.0", "method": method}).encode())


def result(step: Step) -> Any:
    assert step.answer is not None
    return json.loads(step.answer)["result"]


@pytest.mark.parametrize("profile", PROFILES)
async def test_the_answers_on_file_are_the_sdks_own(profile: str) -> None:
    """If this fails: python -m pyro_mcp.mcp.generate."""
    assert answers_path(profile).read_text() == rendered(await answers_of(profile))


def test_the_size_of_the_tool_list() -> None:
    answers = load_answers("workspace-core")
    for version, listed in answers.tools.items():
        assert len(json.dumps(listed, separators=(",", ":")).encode()) <= 12 * 1024, version


def test_the_profiles_of_the_command_line() -> None:
    assert command.PROFILES == PROFILES


@pytest.mark.parametrize("version", HANDSHAKE_PROTOCOL_VERSIONS)
def test_a_handshake(front: Front, version: str) -> None:
    step = asked(front, "initialize", OPENING | {"protocolVersion": version}, request_id="a")
    assert result(step)["protocolVersion"] == version
    assert step == Step(step.answer, hand_over=False, taken=True)
    assert told(front, "notifications/initialized") == Step()
    listed = asked(front, "tools/list")
    assert listed.hand_over
    assert result(listed) == front.answers.tools[version]
    assert [json.loads(line)["method"] for line in front.replay] == ["initialize", "notifications/initialized"]
    assert front.handshake_id == "a"


def test_a_version_from_the_future_gets_the_latest_that_we_know(front: Front) -> None:
    step = asked(front, "initialize", OPENING | {"protocolVersion": "2031-01-01"})
    assert result(step)["protocolVersion"] == "2025-11-25"


def test_discovery_and_the_list_without_a_handshake(front: Front) -> None:
    found = asked(front, "server/discover", {"_meta": ENVELOPE})
    assert result(found)["supportedVersions"] == ["2026-07-28"]
    listed = asked(front, "tools/list", {"_meta": ENVELOPE | {"progressToken": 3}}, request_id=7)
    assert json.loads(listed.answer or b"")["id"] == 7
    assert result(listed)["tools"] == front.answers.tools["2026-07-28"]["tools"]
    assert (listed.hand_over, front.replay, front.handshake_id) == (True, [], None)


def test_a_host_that_shakes_hands_after_all(front: Front) -> None:
    """One host does, if discovery takes it too long; the SDK has not seen the discovery and accepts it."""
    asked(front, "server/discover", {"_meta": ENVELOPE})
    assert result(asked(front, "initialize", OPENING))["protocolVersion"] == "2025-06-18"
    assert len(front.replay) == 2


def test_ping_during_a_handshake(front: Front) -> None:
    asked(front, "initialize", OPENING)
    assert result(asked(front, "ping")) == {}
    assert told(front, "notifications/cancelled") == Step()


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/list", {}),  # before a handshake
        ("ping", {}),
        ("tools/call", {"name": "vm_run"}),
        ("tools/list", {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}),
        ("tools/list", {"_meta": ENVELOPE | {"io.modelcontextprotocol/protocolVersion": "2031-01-01"}}),
        ("tools/list", {"_meta": ENVELOPE | {"io.modelcontextprotocol/protocolVersion": 5}}),
        ("tools/list", {"_meta": ENVELOPE, "cursor": "x"}),
        ("server/discover", {}),
        ("initialize", {}),
        ("initialize", OPENING | {"clientInfo": {"name": "c"}}),
        ("initialize", OPENING | {"clientInfo": None}),
        ("initialize", OPENING | {"capabilities": []}),
        ("initialize", OPENING | {"protocolVersion": 1}),
        ("initialize", []),
    ],
)
def test_what_is_odd_is_left_to_the_sdk(front: Front, method: str, params: object) -> None:
    assert asked(front, method, params) == Step(None, hand_over=True, taken=False)


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"3",
        b'{"id":1,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":true,"method":"ping"}',
        b"\xff\xfe",
        b"null",
    ],
)
def test_what_is_no_message_is_left_to_the_sdk(front: Front, line: bytes) -> None:
    assert front.take(line) == Step(None, hand_over=True, taken=False)


@pytest.mark.parametrize("params", [{"_meta": ENVELOPE}, {"cursor": "x"}])
def test_after_a_handshake_odd_lists_are_left_to_the_sdk(front: Front, params: object) -> None:
    asked(front, "initialize", OPENING)
    assert asked(front, "tools/list", params) == Step(None, hand_over=True, taken=False)
    assert asked(front, "initialize", OPENING) == Step(None, hand_over=True, taken=False)


def test_notifications_before_a_handshake_are_left_to_the_sdk(front: Front) -> None:
    assert told(front, "notifications/initialized") == Step(None, hand_over=True, taken=False)
