"""The MCP server over real stdio, spoken to by the official client library, in every era of the protocol."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from mcp import Client, StdioServerParameters
from mcp.client import session as client_session
from mcp_types import CallToolResult

from pyro_mcp.mcp.profiles import PROFILES, tools_of
from tests.support.waiting import until

VERSIONS = ("2025-06-18", "2025-11-25", "2026-07-28")
ROOT = Path(__file__).parents[2]
ENDLESS = "sleep infinity"


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A version of the protocol, which the client is made to speak."""
    wanted: str = request.param
    if wanted < "2026":
        monkeypatch.setattr(client_session, "LATEST_HANDSHAKE_VERSION", wanted)
    return wanted


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


@asynccontextmanager
async def connected(version: str, notes: Path, profile: str = "workspace-full") -> AsyncIterator[Client]:
    """A client of that version with a server of its own."""
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "tests.unit.mcp.fake_server", str(notes), profile], cwd=ROOT
    )
    async with Client(server, mode="auto" if version == VERSIONS[-1] else "legacy") as client:
        yield client


def noted(notes: Path, words: str) -> bool:
    """Whether the daemon has been asked for that."""
    return notes.exists() and words in notes.read_text().split()


def words(result: CallToolResult) -> str:
    (content,) = result.content
    assert content.type == "text"
    return content.text


async def test_the_version_that_was_asked_for(version: str, notes: Path) -> None:
    async with connected(version, notes) as client:
        assert client.protocol_version == version
        assert client.instructions is not None
        assert "workspace_create" in client.instructions


@pytest.mark.parametrize("profile", PROFILES)
async def test_the_tools_and_what_is_said_about_them(version: str, notes: Path, profile: str) -> None:
    async with connected(version, notes, profile) as client:
        listed = await client.list_tools()
    assert [tool.name for tool in listed.tools] == [tool.name for tool in tools_of(profile)]
    for tool in listed.tools:
        assert tool.title
        assert tool.annotations is not None
        hints = tool.annotations.model_dump(by_alias=True, exclude_none=True)
        assert hints.keys() == {"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"}
        assert tool.description is not None
        assert tool.description.startswith("Use ")
        assert len(tool.description.encode()) < 2048
        assert tool.output_schema is not None
        Draft202012Validator.check_schema(tool.output_schema)
        Draft202012Validator.check_schema(tool.input_schema)
        assert "title" not in json.dumps([tool.input_schema, tool.output_schema])


async def test_a_call_while_the_sdk_is_still_being_loaded(version: str, notes: Path) -> None:
    async with connected(version, notes) as client:
        first, second = await asyncio.gather(
            client.call_tool("workspace_list"), client.call_tool("workspace_status", {"workspace": "w-7k2m"})
        )
    assert first.structured_content["workspaces"][0]["workspace_id"] == "w-7k2m"
    assert "state: running" in words(second)
    assert noted(notes, "wake")  # the daemon has been started meanwhile


async def test_many_calls_at_once(version: str, notes: Path) -> None:
    async with connected(version, notes) as client:
        await client.list_tools()
        calls = [client.call_tool("workspace_exec", {"workspace": "w-7k2m", "command": f"echo {i}"}) for i in range(50)]
        results = await asyncio.gather(*calls)
    assert len({result.structured_content["exec_id"] for result in results}) == 50
    assert all("hello" in words(result) for result in results)


async def test_an_error_is_a_result_that_names_code_and_way_out(version: str, notes: Path) -> None:
    async with connected(version, notes) as client:
        unknown = await client.call_tool("workspace_status", {"workspace": "nowhere"})
        misspelt = await client.call_tool("workspace_exec", {"workspace": "w-7k2m", "comand": "ls"})
        nameless = await client.call_tool("workspace_statsu", {})
    assert unknown.is_error
    assert words(unknown).startswith("unknown_workspace: there is no workspace 'nowhere'. Hint: ")
    assert misspelt.is_error
    assert "did you mean `command`?" in words(misspelt)
    assert nameless.is_error
    assert "did you mean workspace_status?" in words(nameless)


async def test_progress_for_a_caller_that_asks_for_it(version: str, notes: Path) -> None:
    told: list[tuple[float, str]] = []
    heard = asyncio.Event()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        assert total is None
        told.append((progress, message or ""))
        heard.set()

    async with connected(version, notes) as client:
        waiting = asyncio.create_task(
            client.call_tool(
                "workspace_exec", {"workspace": "w-7k2m", "command": ENDLESS}, progress_callback=on_progress
            )
        )
        async with asyncio.timeout(60):
            await heard.wait()
        waiting.cancel()
        await asyncio.wait((waiting,))
    assert "the command runs, 6 bytes of output" in told[0][1]


async def test_cancelling_a_call_ends_its_command(version: str, notes: Path) -> None:
    async with connected(version, notes) as client:
        arguments: dict[str, Any] = {"workspace": "w-7k2m", "command": ENDLESS}
        waiting = asyncio.create_task(client.call_tool("workspace_exec", arguments))
        await until(lambda: noted(notes, "wait_for_command"))
        waiting.cancel()
        await until(lambda: noted(notes, "cancel_command"))
        again = await client.call_tool("workspace_logs", {"workspace": "w-7k2m", "exec_id": "x-000000"})
    assert again.structured_content["status"] == "cancelled"


async def test_the_end_of_the_connection_ends_what_is_under_way(notes: Path) -> None:
    async with connected("2025-11-25", notes) as client:
        arguments: dict[str, Any] = {"workspace": "w-7k2m", "command": ENDLESS}
        waiting = asyncio.create_task(client.call_tool("workspace_exec", arguments))
        await until(lambda: noted(notes, "wait_for_command"))
    await asyncio.wait((waiting,))
    await until(lambda: noted(notes, "cancel_command"))
