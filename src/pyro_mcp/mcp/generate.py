"""Writes down what the SDK answers to a chat host's opening questions: `python -m pyro_mcp.mcp.generate`.

`front` gives these answers before the SDK is loaded. Run this after every change of a tool, a profile, the version or
the SDK; a test fails where it was forgotten.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCMessage, JSONRPCResponse, jsonrpc_message_adapter
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION, MODERN_PROTOCOL_VERSIONS

from pyro_mcp.mcp.call import Limits
from pyro_mcp.mcp.folders import AllowedFolders
from pyro_mcp.mcp.front import answers_path
from pyro_mcp.mcp.profiles import PROFILES
from pyro_mcp.mcp.server import build_server

if TYPE_CHECKING:
    from pyro_mcp.mcp.backend import Backend

_CLIENT = {"name": "generate", "version": "1"}


async def answers_of(profile: str) -> dict[str, Any]:
    """All that the front has to know about a profile."""
    tools: list[dict[str, Any]] = []
    initialize: dict[str, Any] = {}
    discover: dict[str, Any] = {}
    for version in (*HANDSHAKE_PROTOCOL_VERSIONS, *MODERN_PROTOCOL_VERSIONS):
        modern = version in MODERN_PROTOCOL_VERSIONS
        opening, listed = await _ask(profile, _modern_questions(version) if modern else _legacy_questions(version))
        (discover if modern else initialize)[version] = opening
        same = next((entry for entry in tools if entry["result"] == listed), None)
        if same is None:
            tools.append({"versions": [version], "result": listed})
        else:
            same["versions"].append(version)
    return {"latest": LATEST_HANDSHAKE_VERSION, "initialize": initialize, "discover": discover, "tools": tools}


def _legacy_questions(version: str) -> list[dict[str, Any]]:
    opening = {"protocolVersion": version, "capabilities": {}, "clientInfo": _CLIENT}
    return [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": opening},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
    ]


def _modern_questions(version: str) -> list[dict[str, Any]]:
    meta = {
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": _CLIENT,
    }
    methods = ("server/discover", "tools/list")
    return [
        {"jsonrpc": "2.0", "id": number, "method": method, "params": {"_meta": meta}}
        for number, method in enumerate(methods, 1)
    ]


async def _ask(profile: str, questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The SDK's answers, in the order of the questions."""
    # Nothing of this reaches a tool.
    server = build_server(profile, cast("Backend", None), Limits(AllowedFolders((), Path("/"))))
    to_server, server_reads = anyio.create_memory_object_stream[SessionMessage | Exception](len(questions))
    server_writes, from_server = anyio.create_memory_object_stream[SessionMessage](len(questions))
    answers = []
    async with anyio.create_task_group() as tasks, to_server, from_server:
        tasks.start_soon(server.run, server_reads, server_writes, server.create_initialization_options())
        for question in questions:
            message: JSONRPCMessage = jsonrpc_message_adapter.validate_python(question)
            await to_server.send(SessionMessage(message))
            answer = (await from_server.receive()).message
            if not isinstance(answer, JSONRPCResponse):
                raise TypeError(f"the SDK refused {question['method']}: {answer}")
            answers.append(answer.result)
        tasks.cancel_scope.cancel()
    return answers


def rendered(answers: dict[str, Any]) -> str:
    """As it stands in the file: one line a value, so that changes can be read."""
    return json.dumps(answers, indent=1) + "\n"


def main() -> None:
    """Write the files of all profiles."""
    for profile in PROFILES:
        answers_path(profile).write_text(rendered(anyio.run(answers_of, profile)))


if __name__ == "__main__":
    main()
