"""What the protocol allows the host to say, checked before it is said.

The agent checks the same, but refuses with the whole request; here the part that is wrong has a name.
"""

import re
from collections.abc import Iterable

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.guest.tool_requests import DiffTool, ListTool, OutputTool, ReadTool, Tool

SIGNALS = range(1, 65)
SIZES = range(1 << 63)  # offsets and lengths in bytes, which the guest's kernel counts in signed numbers
KEPT_ID = re.compile(r"[a-z0-9-]{1,64}")
_PIDS = range(1, 1 << 31)
_MILLISECONDS = range(1, 1 << 64)


def check_command(argv: tuple[str, ...], env: dict[str, str], cwd: str, timeout_ms: int | None) -> None:
    """A command. Raises `InvalidRequest`."""
    if not argv:
        raise InvalidRequest("bad_command", "the command is empty")
    check_texts("the command", (*argv, cwd, *env, *env.values()))
    if any(not name or "=" in name for name in env):
        raise InvalidRequest("bad_environment", "a variable's name is empty or holds '='")
    if not cwd.startswith("/"):
        raise InvalidRequest("bad_folder", f"the working directory {cwd[:200]!r} is not absolute")
    if timeout_ms is not None:
        check_number("a time-out in milliseconds", timeout_ms, _MILLISECONDS)


def check_tool(tool: Tool) -> None:
    """A tool's parameters. Raises `InvalidRequest`."""
    if isinstance(tool, OutputTool):
        check_id(tool.id)
        check_texts("the pattern", (tool.grep or "",))
    if isinstance(tool, OutputTool | ReadTool):
        check_number("an offset", tool.offset, SIZES)
    if isinstance(tool, OutputTool | ReadTool | ListTool):
        check_number("a limit", tool.limit, SIZES[1:])
    if isinstance(tool, DiffTool):
        check_number("a limit", tool.max_bytes, SIZES)
    path = getattr(tool, "path", "/")
    check_texts("the path", (path,))
    if not path.startswith("/"):
        raise InvalidRequest("bad_path", f"the path {path[:200]!r} is not absolute")


def check_signal(pid: int, number: int) -> None:
    """A signal for a process group. Raises `InvalidRequest`."""
    check_number("a process id", pid, _PIDS)
    check_number("a signal", number, SIGNALS)


def check_id(kept: str) -> None:
    """The id of a kept command. Raises `InvalidRequest`."""
    if not KEPT_ID.fullmatch(kept):
        raise InvalidRequest("bad_command_id", f"{kept[:80]!r} cannot be a command's id")


def check_number(what: str, number: int, allowed: range) -> None:
    """Raises `InvalidRequest` for a number that is out of range."""
    if number not in allowed:
        raise InvalidRequest(
            "out_of_range",
            f"{what} of {str(number)[:40]}",
            f"it must be between {allowed.start} and {allowed.stop - 1}",
        )


def check_texts(what: str, texts: Iterable[str]) -> None:
    """Raises `InvalidRequest` for text that no program can be given: with a NUL in it, or not to be had in UTF-8."""
    for text in texts:
        if "\0" in text:
            raise InvalidRequest("bad_text", f"{what} holds a NUL byte")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidRequest("bad_text", f"{what} holds what is not Unicode text") from None
