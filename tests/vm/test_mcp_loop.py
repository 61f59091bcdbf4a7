"""A chat host's own loop over a real project: create from it, test, break, see that fail, reset, pass, diff, export."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp_types import CallToolResult

from tests.support.project import HANDED_IN, download, unpack
from tests.vm.pyro_command import PYRO, PyroCommand, files_below

# Without those of raw HTML (html_blocks, md_in_html): a security update of Debian's Python changed its HTML parser.
TEST = "python3 -B -m unittest discover -q -s tests/test_syntax -t . -p 'test_[!hm]*.py'"
PATCH = """\
--- a/markdown/inlinepatterns.py
+++ b/markdown/inlinepatterns.py
@@ -71,5 +71,5 @@
     \"\"\"
     inlinePatterns = util.Registry()
-    inlinePatterns.register(BacktickInlineProcessor(BACKTICK_RE), 'backtick', 190)
+    inlinePatterns.register(BacktickInlineProcessor(r'never'), 'backtick', 190)
     inlinePatterns.register(EscapeInlineProcessor(ESCAPE_RE, md), 'escape', 180)
     inlinePatterns.register(ReferenceInlineProcessor(REFERENCE_RE, md), 'reference', 170)
"""


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's released sources."""
    folder = tmp_path_factory.mktemp("sources")
    if HANDED_IN.is_dir():
        return unpack(HANDED_IN, folder)
    asyncio.run(download(folder))
    return unpack(folder, folder)


class Chat:
    """A chat with tools: calls them, and keeps nothing else of a model."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def __call__(self, tool: str, **arguments: Any) -> Any:
        """Call a tool that must succeed."""
        result = await self.raw(tool, **arguments)
        assert not result.is_error, result.content
        return result.structured_content

    async def raw(self, tool: str, **arguments: Any) -> CallToolResult:
        return await self._client.call_tool(tool, arguments)

    async def until_ended(self, workspace: str, command: str) -> Any:
        """Run a command and wait for it as models are told to, however long it takes here."""
        done = await self("workspace_exec", workspace=workspace, command=command, timeout_seconds=600, wait_seconds=5)
        while done["status"] == "running":
            done |= await self("workspace_logs", workspace=workspace, exec_id=done["exec_id"], wait_seconds=45)
        return done


@asynccontextmanager
async def chat(pyro: PyroCommand, project: Path, *, profile: str = "workspace-full") -> AsyncIterator[Chat]:
    """A chat in a project's folder."""
    server = StdioServerParameters(
        command=PYRO, args=["mcp", "serve", "--profile", profile], env=pyro.environment, cwd=project
    )
    async with Client(server, mode="auto") as client:
        yield Chat(client)


@pytest.fixture(autouse=True)
def nothing_left(pyro: PyroCommand) -> Iterator[None]:
    """No workspace outlives its test, however that ends."""
    yield
    for name in ("loop", "lasting", "cancelled"):
        pyro("workspace", "delete", name)
    pyro("workspace", "prune")


async def test_the_loop(pyro: PyroCommand, sources: Path) -> None:
    async with chat(pyro, sources) as tools:
        made = await tools(
            "workspace_create", environment="debian:12", seed_path=".", name="loop", labels={"of": "test"}
        )
        assert made["seed_files"] == len(files_below(sources))
        passed = await tools.until_ended("loop", TEST)
        assert (passed["status"], passed["exit_code"]) == ("exited", 0), passed["output"]
        assert "OK" in passed["output"]

        patched = await tools("workspace_patch_apply", workspace="loop", patch=PATCH)
        assert patched["files"] == [{"path": "/workspace/markdown/inlinepatterns.py", "change": "modified"}]
        failed = await tools.until_ended("loop", TEST)
        assert failed["exit_code"] == 1
        assert "FAILED" in failed["output"]
        diff = await tools("workspace_diff", workspace="loop")
        assert diff["files"][0]["path"] == "/workspace/markdown/inlinepatterns.py"
        assert "r'never'" in diff["diff"]

    async with chat(pyro, sources, profile="workspace-core") as tools:  # another day, another chat
        (found,) = (await tools("workspace_list"))["workspaces"]
        assert (found["name"], found["state"]) == ("loop", "running")
        await tools("workspace_reset", workspace="loop")
        assert (await tools.until_ended("loop", TEST))["exit_code"] == 0
        await tools("workspace_file_write", workspace="loop", path="NEW.md", text="# new\n")
        diff = await tools("workspace_diff", workspace="loop")
        changed = {entry["path"]: entry["change"] for entry in diff["files"] if "__pycache__" not in entry["path"]}
        assert changed == {"/workspace/NEW.md": "added"}
        exported = await tools("workspace_export", workspace="loop", path="NEW.md", output="OUT.md")
        assert exported["files"] == 1
        await tools("workspace_delete", workspace="loop")
        assert (await tools("workspace_list"))["workspaces"] == []
    assert (sources / "OUT.md").read_text() == "# new\n"


async def test_a_command_outlives_the_server_that_started_it(pyro: PyroCommand, tmp_path: Path) -> None:
    async with chat(pyro, tmp_path) as tools:
        await tools("workspace_create", environment="debian:12", name="lasting")
        line = "until [ -e go ]; do sleep 0.1; done; echo went"
        started = await tools("workspace_exec", workspace="lasting", command=line, timeout_seconds=600, wait_seconds=0)
        assert started["status"] == "running"
    async with chat(pyro, tmp_path) as tools:
        await tools("workspace_file_write", workspace="lasting", path="go", text="")
        ended = await tools("workspace_logs", workspace="lasting", exec_id=started["exec_id"], wait_seconds=60)
        assert (ended["status"], ended["exit_code"], ended["output"]) == ("exited", 0, "went\n")


async def test_cancelling_a_call_ends_the_commands_group(pyro: PyroCommand, tmp_path: Path) -> None:
    async with chat(pyro, tmp_path) as tools:
        await tools("workspace_create", environment="debian:12", name="cancelled")
        running: list[Any] = []

        async def wait() -> None:
            await tools("workspace_exec", workspace="cancelled", command="sleep 987 | cat", timeout_seconds=900)

        waiting = asyncio.create_task(wait())
        while not running:
            running = (await tools("workspace_logs", workspace="cancelled"))["commands"]
        waiting.cancel()
        await asyncio.wait((waiting,))
        ended = await tools("workspace_logs", workspace="cancelled", exec_id=running[0]["exec_id"], wait_seconds=60)
        assert ended["status"] == "cancelled"
        left = await tools("workspace_exec", workspace="cancelled", command="ps ax | grep '[s]leep 987' || echo none")
        assert left["output"] == "none\n"


async def test_a_throwaway_machine(pyro: PyroCommand, tmp_path: Path) -> None:
    async with chat(pyro, tmp_path, profile="vm-run") as tools:
        done = await tools("vm_run", environment="debian:12", command="echo out; echo err >&2; exit 7")
        assert (done["exit_code"], done["stdout"], done["stderr"]) == (7, "out\n", "err\n")
        missing = await tools.raw("vm_run", environment="debian:12", command=["no-such-program"])
        assert missing.is_error
