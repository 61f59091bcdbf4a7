"""Chat hosts on this machine, which pyro is to be connected to."""

import asyncio
import re
import shutil

from pyro_mcp import process
from pyro_mcp.doctor.report import Row, listed, passed

NAME = "chat-hosts"
PROGRAMS = {"claude": "Claude Code", "codex": "Codex", "opencode": "OpenCode"}
SECONDS = 10.0
_VERSION_SECONDS = 4.0
_VERSION = re.compile(r"\d+\.\d+[\w.+-]*")


async def examine() -> Row:
    """Having none is no fault: pyro is of use without."""
    described = await asyncio.gather(*(_describe(program, title) for program, title in PROGRAMS.items()))
    found = [words for words in described if words is not None]
    if not found:
        return passed(NAME, f"none found (looked for {listed(PROGRAMS)} on PATH)")
    return passed(NAME, f"found {listed(found)}")


async def _describe(program: str, title: str) -> str | None:
    path = shutil.which(program)
    if path is None:
        return None
    try:
        async with asyncio.timeout(_VERSION_SECONDS):
            outcome = await process.run([path, "--version"])
    except TimeoutError:
        return f"{title} (it does not tell its version within {_VERSION_SECONDS:g} s)"
    except OSError as error:
        return f"{title} (it cannot be started: {error.strerror})"
    version = _VERSION.search(outcome.stdout.decode(errors="replace"))
    return f"{title} {version[0]}" if version else f"{title} (of unknown version)"
