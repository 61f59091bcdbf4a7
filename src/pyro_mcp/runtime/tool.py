"""Running the programs that a bundle is built with."""

from collections.abc import Mapping
from pathlib import Path

from pyro_mcp import process
from pyro_mcp.errors import HostUnfit, SourceFailed


async def run_tool(
    *argv: str, package: str, cwd: Path | None = None, env: Mapping[str, str] | None = None, keep_bytes: int = 64 * 1024
) -> bytes:
    """Run a program of a Debian package to its end and return the last `keep_bytes` of its standard output.

    Raises `HostUnfit` when there is no such program, and `SourceFailed` with the last line that it wrote when it fails.
    """
    try:
        done = await process.run(argv, cwd=cwd, env=env, keep_bytes=keep_bytes)
    except FileNotFoundError:
        raise HostUnfit("no_program", f"there is no {argv[0]} on this machine", f"apt-get install {package}") from None
    if done.exit_code != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise SourceFailed(
            "tool_failed", f"{argv[0]} ended with code {done.exit_code}: {lines[-1] if lines else 'it said nothing'}"
        )
    return done.stdout
