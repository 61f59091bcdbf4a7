"""Real chat hosts take us for a server: what docs/integrations.md has people type, and what the hosts say to it."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.chat_hosts import ChatHost

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

pytestmark = pytest.mark.slow


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Callable[[str], ChatHost]]:
    """Makes chat hosts."""
    made: list[ChatHost] = []

    def make(name: str) -> ChatHost:
        made.append(ChatHost(name, tmp_path))
        made[-1].project.mkdir(parents=True)
        return made[-1]

    yield make
    for each in made:
        each.end()


def test_claude_code(host: Callable[[str], ChatHost]) -> None:
    claude = host("claude")
    claude("mcp", "add", "pyro", "--", "pyro", "mcp", "serve")
    assert re.search(r"^pyro: pyro mcp serve - . Connected$", claude("mcp", "list"), re.MULTILINE)


def test_claude_code_with_the_projects_file(host: Callable[[str], ChatHost]) -> None:
    claude = host("claude")
    shutil.copy(EXAMPLES / "claude-code" / "mcp.json", claude.project / ".mcp.json")
    settings = claude.home / ".claude" / "settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"enableAllProjectMcpServers": True}))
    assert "pyro: pyro mcp serve" in claude("mcp", "list")


def test_opencode(host: Callable[[str], ChatHost]) -> None:
    opencode = host("opencode")
    shutil.copy(EXAMPLES / "opencode" / "opencode.json", opencode.project)
    listed = re.sub(r"\x1b\[[0-9;]*m", "", opencode("mcp", "list"))
    assert re.search(r"pyro connected\s", listed)
