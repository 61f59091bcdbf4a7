"""`sync push`: a folder of the host into a workspace, as one tar stream that the agent unpacks."""

from functools import partial
from pathlib import Path

from pyro_mcp.guest import tools
from pyro_mcp.guest.client import GuestClient
from pyro_mcp.guest.tools import UnpackTool
from pyro_mcp.transfer import tree_tar
from pyro_mcp.transfer.limits import Tally
from pyro_mcp.transfer.selection import select
from pyro_mcp.transfer.tar_writer import TarWriter
from pyro_mcp.transfer.tree_tar import Owners
from pyro_mcp.transfer.worker import in_thread
from pyro_mcp.workspace.paths import inside
from pyro_mcp.workspace.transfer_pipes import produced
from pyro_mcp.workspace.transfer_progress import Report, left_out, reported, tell
from pyro_mcp.workspace_models import SyncPush, SyncReport

_OPERATION = "sync"


async def push(guest: GuestClient, request: SyncPush, report: Report) -> SyncReport:
    """Copy what is in `request.source` (absolute, through no symbolic link) into a folder of the workspace.

    Of a git checkout what git sees goes in, without its repository, which would replace the workspace's own; with
    `request.all` everything does. Files are replaced one by one, each whole; what is there besides stays. Raises
    `NotFound`, `InvalidRequest`, `HostUnfit`, `GuestFailed`; what was copied before an error stays.
    """
    dest = inside(request.dest)
    async with select(Path(request.source), everything=request.all, repository=False) as selection:
        scanning, tally = Tally(), Tally()
        await in_thread(partial(tree_tar.scan, selection.parts, scanning), scanning.stop)
        owners = Owners.of(selection.parts)

        def fill(fd: int) -> None:
            tree_tar.write(selection.parts, TarWriter(fd, exact_times=True), owners, tally)

        async with reported(report, _OPERATION, tally, scanning.bytes), produced(fill, tally.stop) as stream:
            await tools.run(guest, UnpackTool(dest), stdin=stream)
    await tell(report, _OPERATION, (*selection.notices, *left_out(tally)))
    return SyncReport(tally.files, tally.bytes, dest)
