"""Answers a chat host's opening questions before the MCP SDK is loaded.

Importing the SDK takes about a second, and a host silently leaves out a server that takes longer than that to tell
its tools. What the SDK would answer to `initialize`, `server/discover` and `tools/list` is known beforehand, so it
stands in files beside this one (see `generate`; a test compares them with the SDK's own answers). Whatever else comes
goes to the SDK, and so does the handshake that was answered here.

Standard library only, and little of it.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
_CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities"
_ANSWERED = ("notifications/initialized", "notifications/cancelled")


@dataclass(frozen=True)
class Answers:
    """What the SDK answers, by method and protocol version; `latest` is what an unknown version gets."""

    initialize: dict[str, Any]
    discover: dict[str, Any]
    tools: dict[str, Any]
    latest: str


@dataclass(frozen=True)
class Step:
    """What becomes of one message: an answer if `answer` is set, and then the SDK's turn if `hand_over` is.

    `taken`: the SDK need not see the message.
    """

    answer: bytes | None = None
    hand_over: bool = False
    taken: bool = True


_TO_THE_SDK = Step(hand_over=True, taken=False)


@dataclass
class Front:
    """One connection's opening. `replay` is the handshake that the SDK has to be told of later on."""

    answers: Answers
    replay: list[bytes] = field(default_factory=list)
    handshake_id: int | str | None = None
    _version: str | None = None  # of the handshake, once there was one

    def take(self, line: bytes) -> Step:
        """Answer a message, or leave it to the SDK."""
        try:
            message = json.loads(line)
        except ValueError:
            return _TO_THE_SDK
        if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
            return _TO_THE_SDK
        method, params = message.get("method"), message.get("params", {})
        if not isinstance(params, dict):
            return _TO_THE_SDK
        if "id" not in message:
            return self._notification(method)
        if isinstance(message["id"], bool) or not isinstance(message["id"], int | str):
            return _TO_THE_SDK
        return self._request(message["id"], method, params)

    def _notification(self, method: object) -> Step:
        """All that was asked has been answered, so there is nothing to cancel either."""
        return Step() if self._version is not None and method in _ANSWERED else _TO_THE_SDK

    def _request(self, request_id: int | str, method: object, params: dict[str, Any]) -> Step:
        if method == "initialize":
            return self._initialize(request_id, params)
        version = _envelope_version(params) if self._version is None else self._version
        plain = set(params) <= {"_meta"} and (self._version is None or not _has_envelope(params))
        if method == "tools/list" and plain and version in self.answers.tools:
            # From here on calls can come, so now is the time to load what they need.
            return Step(_answer(request_id, self.answers.tools[version]), hand_over=True)
        if method == "server/discover" and self._version is None and version in self.answers.discover:
            return Step(_answer(request_id, self.answers.discover[version]))
        if method == "ping" and self._version is not None and plain:
            return Step(_answer(request_id, {}))
        return _TO_THE_SDK

    def _initialize(self, request_id: int | str, params: dict[str, Any]) -> Step:
        wanted, client = params.get("protocolVersion"), params.get("clientInfo")
        known = isinstance(client, dict) and all(isinstance(client.get(key), str) for key in ("name", "version"))
        if self._version is not None or not known or not isinstance(wanted, str):
            return _TO_THE_SDK
        if not isinstance(params.get("capabilities"), dict):
            return _TO_THE_SDK
        self._version = wanted if wanted in self.answers.initialize else self.answers.latest
        self.handshake_id = request_id
        # Only what the SDK cannot refuse: the host has been told yes already. We use none of its capabilities.
        identity = {"name": client["name"], "version": client["version"]}  # type: ignore[index]
        opening = {"protocolVersion": wanted, "capabilities": {}, "clientInfo": identity}
        self.replay = [
            _line({"jsonrpc": "2.0", "id": request_id, "method": "initialize", "params": opening}),
            _line({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        ]
        return Step(_answer(request_id, self.answers.initialize[self._version]))


def _has_envelope(params: dict[str, Any]) -> bool:
    meta = params.get("_meta")
    return isinstance(meta, dict) and _VERSION_KEY in meta


def _envelope_version(params: dict[str, Any]) -> str:
    """The version that a request of the newer kind carries with it, or nothing where it is incomplete."""
    meta = params.get("_meta")
    if not isinstance(meta, dict) or not isinstance(meta.get(_CAPABILITIES_KEY), dict):
        return ""
    version = meta.get(_VERSION_KEY)
    return version if isinstance(version, str) else ""


def _answer(request_id: int | str, result: dict[str, Any]) -> bytes:
    return _line({"jsonrpc": "2.0", "id": request_id, "result": result})


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def answers_path(profile: str) -> Path:
    """Where the answers of a profile are kept."""
    return Path(__file__).with_name("handshake") / f"{profile}.json"


def load_answers(profile: str) -> Answers:
    """Read the answers of a profile."""
    kept = json.loads(answers_path(profile).read_bytes())
    tools = {version: entry["result"] for entry in kept["tools"] for version in entry["versions"]}
    return Answers(kept["initialize"], kept["discover"], tools, kept["latest"])
