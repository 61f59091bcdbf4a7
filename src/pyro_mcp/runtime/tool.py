"""Running the programs that a bundle is built with."""

import re
from pathlib import Path

from pyro_mcp import process
from pyro_mcp.errors import HostUnfit, SourceFailed

_MARK = re.compile(r"(E|error|fatal error): ", re.IGNORECASE)  # apt and mmdebstrap; pip, cargo and others


async def run_tool(*argv: str, package: str, hint: str, cwd: Path | None = None, keep_bytes: int = 64 * 1024) -> bytes:
    """Run a program of a Debian package to its end and return the last `keep_bytes` of its standard output.

    `hint` is what the user may do when it fails. Raises `HostUnfit` when there is no such program, and `SourceFailed`
    with what it complained of when it fails.
    """
    try:
        done = await process.run(argv, cwd=cwd, keep_bytes=keep_bytes)
    except FileNotFoundError:
        raise HostUnfit("no_program", f"there is no {argv[0]} on this machine", f"apt-get install {package}") from None
    if done.exit_code != 0:
        message = f"{argv[0]} ended with code {done.exit_code}: {_complaint(done.stderr)}"
        raise SourceFailed("tool_failed", message, hint)
    return done.stdout


def _complaint(stderr: bytes) -> str:
    """The line that says why: the first one marked as an error (more follow from it), else the last one."""
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    marked = [line for line in lines if _MARK.match(line)]
    return (marked or lines[-1:] or ["it said nothing"])[0]
