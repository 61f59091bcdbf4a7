"""The two ways to ask pyro for something, and what each may say when it refuses: a code, a sentence, a hint.

What is asked is written down once (`Ask`), for the command line in words and for the MCP server as a tool's arguments.
"""

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyro_mcp
from tests.support.pace import patience
from tests.vm.pyro_command import Ended, PyroCommand
from tests.vm.stdio_server import StdioServer

# In words, the folder that holds the test's files: the MCP server works in it and takes relative paths.
FOLDER = "FOLDER"
_ANSWER_SECONDS = patience(60)


@dataclass(frozen=True)
class Ask:
    """The words after `pyro workspace`, and the tool; either may be missing where only the other can be asked."""

    words: tuple[str, ...] = ()
    tool: str = ""
    arguments: Mapping[str, object] = field(default_factory=dict)


class Conversation(StdioServer):
    """An MCP server in a folder, with any number of calls."""

    def __init__(self, pyro: PyroCommand, folder: Path, *flags: str) -> None:
        with contextlib.chdir(folder):
            super().__init__(pyro, "--profile", "workspace-full", *flags)
        self._last = 1

    def begin(self, tool: str, arguments: Mapping[str, object]) -> int:
        """Ask for a tool; returns the number that its answer is found by."""
        self._last += 1
        self._send({"id": self._last, "method": "tools/call", "params": {"name": tool, "arguments": dict(arguments)}})
        return self._last

    def end(self, number: int) -> dict[str, object]:
        """The result of a call."""
        assert self._wait(number, _ANSWER_SECONDS), "the server did not answer"
        result = self._answers.pop(number).get("result")
        assert isinstance(result, dict)
        return result

    def __call__(self, tool: str, **arguments: object) -> dict[str, object]:
        """Ask for a tool and wait for its result."""
        return self.end(self.begin(tool, arguments))


@dataclass(frozen=True)
class CommandLine:
    """`pyro workspace ...`."""

    pyro: PyroCommand
    folder: Path

    def refused(self, ask: Ask, code: str, exit_code: int = 1) -> str:
        """What it says; fails unless it refuses as it should."""
        return refusal(
            self.pyro("workspace", *(word.replace(FOLDER, str(self.folder)) for word in ask.words)), code, exit_code
        )


@dataclass(frozen=True)
class Mcp:
    """A tool of `pyro mcp serve`."""

    server: Conversation
    private: tuple[str, ...]

    @staticmethod
    def of(pyro: PyroCommand, folder: Path, server: Conversation) -> "Mcp":
        """`folder` is that of the server; neither it nor where pyro keeps its things may be told."""
        settings = pyro.client.settings
        package = Path(pyro_mcp.__file__).parent
        return Mcp(server, tuple(map(str, (folder, settings.home, settings.cache_dir, sys.prefix, package))))

    def refused(self, ask: Ask, code: str, exit_code: int = 1) -> str:
        """What it says; fails unless it refuses as it should. Here there is no exit code."""
        return self.refusal(self.server(ask.tool, **ask.arguments), code)

    def refusal(self, result: dict[str, object], code: str) -> str:
        """The text of a result that must be an error of this code."""
        assert result["isError"] is True, result
        text = text_of(result)
        assert text.startswith(f"{code}: "), text
        assert " Hint: " in text, text
        assert "Traceback" not in text
        assert [path for path in self.private if path in text] == []
        return text


def refusal(ended: Ended, code: str, exit_code: int = 1) -> str:
    """The error of a command line that must have failed with this code: one line, and a hint."""
    assert ended.exit_code == exit_code, ended
    assert ended.stdout == b""
    lines = [line for line in ended.stderr.splitlines() if not line.startswith("[")]  # progress comes before
    assert lines[0].startswith("pyro: error: "), ended.stderr
    assert lines[0].endswith(f" [{code}]"), ended.stderr
    assert lines[-1].startswith("  hint: "), ended.stderr
    assert len(lines) == 2 or code == "patch_failed", ended.stderr  # which shows what stands there instead
    return "\n".join(lines)


def text_of(result: dict[str, object]) -> str:
    """A tool result's text."""
    content = result["content"]
    assert isinstance(content, list)
    assert len(content) == 1
    return str(content[0]["text"])
