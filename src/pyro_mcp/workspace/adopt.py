"""What a daemon that starts finds of the one before it.

record says            and its VMM       then
creating, purged       whatever          ended, removed for good
deleted, has no disks  whatever          the same: it was being removed from a disk that was full (see `prune`)
running                answers           taken over, with the commands that run in it
running                is silent, fails  ended; stopped: machine-died
running                is gone           stopped: machine-died, or host-restarted
stopped, deleted       runs              ended: nobody was told that it came up
nothing (unclaimed)    whatever          ended, its folder removed
"""

import asyncio
import logging

from pyro_mcp.errors import PyroError
from pyro_mcp.process import Detached
from pyro_mcp.process_watch import Watched
from pyro_mcp.workspace import kept, unclaimed
from pyro_mcp.workspace.core import Core
from pyro_mcp.workspace.prune import remove_for_good
from pyro_mcp.workspace.record import CREATING, DELETED, HOST_RESTARTED, MACHINE_DIED, PURGED, RUNNING, WorkspaceRecord

log = logging.getLogger(__name__)


async def put_in_order(core: Core) -> tuple[WorkspaceRecord, ...]:
    """Clear up what is left of things half done; returns the workspaces whose machines run, to be taken over."""
    running = []
    records = await asyncio.to_thread(core.records.all)
    await _remove_unclaimed(core, {record.workspace_id for record in records})
    for record in records:
        try:
            if await _put_in_order(core, record):
                running.append(record)
        except (PyroError, OSError) as error:
            log.error("cannot put %s in order: %s", record.workspace_id, error)
    return tuple(running)


async def take_over(core: Core, record: WorkspaceRecord) -> None:
    """Join its machine, or say that it is gone; the caller holds the workspace exclusively.

    One that cannot be joined for whatever reason is ended: nobody would watch it, or see that its time is up.
    """
    assert record.process is not None  # noqa: S101  (`put_in_order` returns no others)
    try:
        joined = await core.machines.adopt(record, record.process)
    except Exception:
        log.exception("cannot take over %s: its machine is ended", record.workspace_id)
        joined = False
    if not joined:
        await core.machines.end(record, orderly=False)  # it is gone, but something of it may be left
        await asyncio.to_thread(_gone, core, record, MACHINE_DIED)


async def _put_in_order(core: Core, record: WorkspaceRecord) -> bool:
    """Returns whether it runs."""
    process = record.process
    if record.state == RUNNING and process is not None and _runs(process):
        await asyncio.to_thread(_sweep, core, record, runs=True)
        return True
    if process is not None:
        await kept.kill(process)
    if record.state in (CREATING, PURGED) or _is_half_removed(core, record):
        await asyncio.to_thread(remove_for_good, core, record.workspace_id)
        return False
    if record.state == RUNNING:
        restarted = process is None or not process.is_of_this_boot
        await asyncio.to_thread(_gone, core, record, HOST_RESTARTED if restarted else MACHINE_DIED)
    elif process is not None:
        await asyncio.to_thread(core.records.ended, record.workspace_id)
    await asyncio.to_thread(_sweep, core, record, runs=False)
    return False


async def _remove_unclaimed(core: Core, known: set[str]) -> None:
    """Remove what is left of machines that nobody had claimed; they end with their daemon, if nobody interferes."""
    for workspace_id in await asyncio.to_thread(core.places.unclaimed) - known:
        try:
            await unclaimed.end_left(core.places, workspace_id)
        except (PyroError, OSError) as error:
            log.warning("what a machine left that nobody claimed stays for now: %s", error)


def _is_half_removed(core: Core, record: WorkspaceRecord) -> bool:
    there = (core.places.has_disk(record.workspace_id, disk) for disk in record.disks)
    return record.state == DELETED and not any(there)


def _sweep(core: Core, record: WorkspaceRecord, *, runs: bool) -> None:
    try:
        core.places.sweep(record, runs=runs)
    except OSError as error:  # no reason not to take over its machine
        log.warning("files of %s that nobody needs stay for now: %s", record.workspace_id, error)


def _gone(core: Core, record: WorkspaceRecord, because: str) -> None:
    core.history.lost(record.workspace_id)
    core.records.stopped(record.workspace_id, because)


def _runs(process: Detached) -> bool:
    vmm = Watched.find(process)
    if vmm is None:
        return False
    vmm.close()
    return True
