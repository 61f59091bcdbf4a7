"""`pyro mcp serve` as chat hosts start it: the real command, the official client, a daemon that starts by itself."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters
from mcp_types import CallToolResult

from pyro_mcp.config import Settings
from pyro_mcp.mcp.profiles import PROFILES, tools_of
from tests.support.daemons import daemons_of, end_daemon
from tests.support.waiting import until

PYRO = str(Path(sys.executable).with_name("pyro"))


@pytest.fixture
def environment(settings: Settings, tmp_path: Path) -> Iterator[dict[str, str]]:
    """As little as hosts hand on, and places of the test's own."""
    yield {"HOME": str(tmp_path), "PATH": os.environ["PATH"], **settings.to_environment()}
    end_daemon(settings)


def server(environment: dict[str, str], folder: Path, *words: str) -> StdioServerParameters:
    return StdioServerParameters(command=PYRO, args=["mcp", "serve", *words], env=environment, cwd=folder)


def words(result: CallToolResult) -> str:
    (content,) = result.content
    assert content.type == "text"
    return content.text


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_from_nothing_to_a_call(
    environment: dict[str, str], settings: Settings, tmp_path: Path, mode: str
) -> None:
    async with Client(server(environment, tmp_path), mode=mode) as client:
        listed = await client.list_tools()
        assert [tool.name for tool in listed.tools] == [tool.name for tool in tools_of("workspace-core")]
        await until(lambda: bool(daemons_of(settings.home)))  # nobody has called anything yet
        assert words(await client.call_tool("workspace_list")) == "no workspaces yet"


async def test_what_a_model_may_not_reach(environment: dict[str, str], tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    async with Client(server(environment, project), mode="auto") as client:
        arguments = {"environment": "debian:12", "seed_path": str(tmp_path)}
        refused = await client.call_tool("workspace_create", arguments)
        unknown = await client.call_tool("vm_run", {"environment": "debian:13", "command": "ls"})
    assert refused.is_error
    assert words(refused).startswith("path_not_allowed: ")
    assert unknown.is_error
    assert words(unknown).startswith("unknown_environment: ")
    assert str(tmp_path) not in words(unknown)


async def test_a_folder_that_the_user_allows(environment: dict[str, str], tmp_path: Path) -> None:
    """It gets as far as the environment, which there is none of that name."""
    for name in ("project", "other"):
        (tmp_path / name).mkdir()
    allowing = server(environment, tmp_path / "project", "--allow-path", str(tmp_path / "other"))
    async with Client(allowing, mode="auto") as client:
        arguments = {"environment": "debian:13", "seed_path": str(tmp_path / "other")}
        got_further = await client.call_tool("workspace_create", arguments)
    assert words(got_further).startswith("unknown_environment: ")


@pytest.mark.parametrize("profile", PROFILES)
async def test_profiles(environment: dict[str, str], tmp_path: Path, profile: str) -> None:
    async with Client(server(environment, tmp_path, "--profile", profile), mode="legacy") as client:
        listed = await client.list_tools()
    assert [tool.name for tool in listed.tools] == [tool.name for tool in tools_of(profile)]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--profile", "all"], "invalid choice: 'all'"),
        (["--allow-path", "/does/not/exist"], "is not a folder"),
        (["--network-policy", "egress"], "invalid choice: 'egress'"),
    ],
)
def test_flags_that_cannot_be(environment: dict[str, str], flags: list[str], said: str) -> None:
    done = subprocess.run([PYRO, "mcp", "serve", *flags], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr


def test_nobody_to_talk_to(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [PYRO, "mcp", "serve"], env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("name", ["PYRO_VMM", "PYRO_HOME"])
def test_a_bad_setting_is_told_at_once(environment: dict[str, str], tmp_path: Path, name: str) -> None:
    done = subprocess.run(
        [PYRO, "mcp", "serve"],
        env={**environment, name: "nonsense"},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "[bad_setting]" in done.stderr
    assert name in done.stderr
