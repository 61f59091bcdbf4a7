"""`export`: a file or a folder of a workspace out to the host, whole or not at all."""

import asyncio
from pathlib import Path
from typing import BinaryIO

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.guest import tools
from pyro_mcp.guest.client import GuestClient
from pyro_mcp.guest.tools import PackTool
from pyro_mcp.guest.violation import ProtocolViolation
from pyro_mcp.transfer.landing import Landing
from pyro_mcp.transfer.names import BadName
from pyro_mcp.transfer.tar_reader import BadTar
from pyro_mcp.transfer.worker import in_thread
from pyro_mcp.workspace.paths import inside
from pyro_mcp.workspace.transfer_pipes import consumed
from pyro_mcp.workspace.transfer_progress import Report, reported
from pyro_mcp.workspace_models import ExportPath, ExportReport

_OPERATION = "export"
_GIT_HINT = "`pyro workspace export --include-git` takes repositories along"


async def export(guest: GuestClient, request: ExportPath, report: Report) -> ExportReport:
    """Copy `request.path` to `request.output` (absolute, through no symbolic link), which appears when it is complete.

    Links that lead out of what is exported, pipes, sockets and devices, and repositories that were not asked for, are
    left out and named in the report; of a repository that is not called `.git` (a bare one) that is its HEAD and its
    config, without which git on the host takes it for a plain folder. Nobody but the owner may write to what comes.
    Raises `NotFound`, `InvalidRequest`, `Conflict` (`output_exists`), `HostUnfit`, `GuestFailed`; nothing is left then.
    """
    path = inside(request.path)
    if not request.include_git and ".git" in path.lower().split("/"):
        raise InvalidRequest("git_not_exported", f"{path} belongs to a git repository", _GIT_HINT)
    landing = await _land(Path(request.output), include_git=request.include_git)
    try:
        async with reported(report, _OPERATION, landing.tally, None):
            await _receive(guest, path, landing)
        await in_thread(landing.settle, _nothing)
    finally:
        await in_thread(landing.close, _nothing)
    skipped = landing.skipped
    return ExportReport(
        request.output,
        landing.tally.files,
        landing.tally.bytes,
        skipped.listed(),
        tuple(skipped.kinds),
        skipped.count,
    )


async def _receive(guest: GuestClient, path: str, landing: Landing) -> None:
    def take(source: BinaryIO) -> None:
        try:
            landing.receive(source)
        except (BadTar, BadName) as error:
            raise ProtocolViolation(f"an archive that cannot be right: {error}") from error

    async with consumed(take, landing.tally.stop) as consumer:
        await tools.run(guest, PackTool(path), on_output=consumer.feed)
        await consumer.finish()


async def _land(output: Path, *, include_git: bool) -> Landing:
    """Make a landing in a thread; one that came too late, for somebody who had left, is taken away again."""
    made: list[Landing] = []
    try:
        await in_thread(lambda: made.append(Landing(output, include_git=include_git)), _nothing)
    except asyncio.CancelledError:
        for landing in made:
            landing.close()
        raise
    return made[0]


def _nothing() -> None:
    """What runs is short, and goes on to its end."""
