"""The server in this process, spoken to by the official client, which holds results against their schemas."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp_types import CallToolResult

from pyro_mcp.mcp.call import Limits
from pyro_mcp.mcp.folders import AllowedFolders
from pyro_mcp.mcp.server import build_server
from tests.unit.mcp.fake_pyro import FakePyro

Calling = Callable[..., Awaitable[CallToolResult]]
W = "w-7k2m"


def words(result: CallToolResult, *, error: bool = False) -> str:
    assert result.is_error is error, result
    (content,) = result.content
    assert content.type == "text"
    if error:
        assert result.structured_content is None  # hosts hold it against the schema, errors included
    return content.text


@pytest.fixture
def fake() -> FakePyro:
    return FakePyro()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The one folder that tools may reach."""
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def call(fake: FakePyro, project: Path) -> Calling:
    """Calls a tool of the fullest profile by name."""

    async def calling(tool: str, **arguments: Any) -> CallToolResult:
        server = build_server("workspace-full", fake, Limits(AllowedFolders((project,), project)))
        async with Client(server, mode="legacy") as client:
            return await client.call_tool(tool, arguments)

    return calling
