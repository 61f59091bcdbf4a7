"""From one state of a workspace to another; whoever calls these holds the workspace exclusively.

Each of them leaves the record true at every moment, so that a daemon that is killed in the middle leaves a workspace
that the next one understands (see `adopt`). Only `boot` may be cancelled; the others are to be run to their end.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from pyro_mcp.errors import GuestFailed, HostUnfit, InvalidRequest, NotFound, PyroError
from pyro_mcp.workspace import names
from pyro_mcp.workspace.blank import blank_disk
from pyro_mcp.workspace.core import Core
from pyro_mcp.workspace.diff import diff
from pyro_mcp.workspace.places import is_newer, new_disk
from pyro_mcp.workspace.record import DELETED, MACHINE_DIED, RUNNING, STOPPED, WorkspaceRecord, after, is_past, now
from pyro_mcp.workspace.records import half_removed, nothing_to_restore
from pyro_mcp.workspace.unclaimed import Unclaimed
from pyro_mcp.workspace_models import DiffRequest, ResetWorkspace, RestoreWorkspace

BASELINE = "baseline"
log = logging.getLogger(__name__)


async def boot(core: Core, record: WorkspaceRecord, ready: Unclaimed | None = None) -> None:
    """Boot its machine, unless it runs; its time limit begins anew, unless there is some of it left.

    With a machine that is `ready`, and that its record names, only if that one fails.

    Raises `HostUnfit`, `NotFound` or `SourceFailed` (its image), `GuestFailed`; it is as stopped then as before.
    """
    if core.machines.get(record.workspace_id) is not None:
        return
    if ready is not None and await core.machines.claim(record, ready, _deadline(record)):
        return
    try:
        await core.machines.start(record, _deadline(record))
    except GuestFailed as error:
        raise _with_a_way_out(error, record) from error


def _with_a_way_out(error: GuestFailed, record: WorkspaceRecord) -> GuestFailed:
    """The same error; where there is a disk that its guest may have destroyed, its hint says what can be done."""
    if record.state not in (RUNNING, STOPPED):
        return error
    anew = f"`pyro workspace reset {record.workspace_id}` begins anew, and keeps this disk"
    first = f"{error.hint}; " if error.hint else ""
    return GuestFailed(error.code, error.message, f"{first}if its guest has destroyed its disk, {anew}")


async def stop(core: Core, record: WorkspaceRecord, because: str | None) -> None:
    """End its machine, and say why; one that is stopped already is stopped for this reason from now on."""
    await core.machines.end(record)
    if record.state in (RUNNING, STOPPED):
        await _write_end(record, partial(core.records.stopped, record.workspace_id, because))


async def delete(core: Core, record: WorkspaceRecord) -> None:
    """End its machine and take it out of sight; all its files stay."""
    await core.machines.end(record)
    await _write_end(record, partial(core.records.deleted, record.workspace_id))


async def _write_end(record: WorkspaceRecord, write: Callable[[], None]) -> None:
    """Write down what has happened; where that fails the user is told that it has, since the record says otherwise."""
    try:
        await asyncio.to_thread(write)
    except HostUnfit as error:
        hint = f"{error.hint or 'make PYRO_HOME usable'}; then do the same again"
        message = f"no machine of {record.workspace_id} runs any more, but that cannot be written down: {error.message}"
        raise HostUnfit(error.code, message, hint) from error


async def reset(core: Core, record: WorkspaceRecord, request: ResetWorkspace) -> None:
    """Boot it with a blank disk, and keep the one that it had instead of what an earlier reset left.

    One that nobody has used since that reset holds nothing: then what that reset left stays the one that is kept.
    Only when the guest answers does the new disk count. Until then, and where the boot fails, the workspace is stopped
    and has the disks that it had, so that another try finds the same work to keep. Raises as `boot` does.
    """
    if request.snapshot != BASELINE:
        raise NotFound(
            "unknown_snapshot", f"there is no snapshot {request.snapshot[:64]!r}", f"`{BASELINE}` is always there"
        )
    disk = new_disk()
    untouched = await _is_untouched(core, record)
    try:
        await blank_disk(core.images, core.places.folder(record.workspace_id) / disk)
        await stop(core, record, MACHINE_DIED if record.state == RUNNING else record.stopped_because)
        stopped = await core.record(record.workspace_id)
        await core.machines.start(replace(stopped, disk=disk), _deadline(record), keep=not untouched)
    finally:
        await asyncio.to_thread(_remove_unnamed, core, record, disk)


async def restore(core: Core, record: WorkspaceRecord, request: RestoreWorkspace) -> None:
    """Bring it back stopped if it is deleted; else bring back the disk that its last reset replaced, and keep this one.

    Raises `Conflict`: `name_in_use`, `nothing_to_restore`, the latter also where its removal was cut short.
    """
    if request.name is not None:
        names.check_name(request.name)
    if record.state == DELETED:
        if not core.places.has_disk(record.workspace_id, record.disk):
            raise half_removed(record.workspace_id)
        name = record.name if request.name is None else request.name
        await asyncio.to_thread(core.records.undeleted, record.workspace_id, name=name)
        return
    if request.name is not None:
        raise InvalidRequest(
            "not_deleted", f"{record.workspace_id} is not deleted", "`pyro workspace update` gives it another name"
        )
    if record.kept is None or not core.places.has_disk(record.workspace_id, record.kept.disk):
        raise nothing_to_restore(record.workspace_id)
    ran = record.state == RUNNING
    await core.machines.end(record)
    because = MACHINE_DIED if ran else record.stopped_because
    await asyncio.to_thread(core.records.swap_disks, record.workspace_id, because=because)
    if ran:
        await boot(core, await core.record(record.workspace_id))


async def _is_untouched(core: Core, record: WorkspaceRecord) -> bool:
    """Whether its disk is the one that its last reset made, and nothing has been run or changed; when in doubt, not."""
    live = core.machines.get(record.workspace_id)
    if live is None or record.kept is None or not is_newer(record.disk, record.kept.disk):
        return False
    commands = await asyncio.to_thread(core.history.execs, record.workspace_id)
    kept_at = datetime.fromisoformat(record.kept.kept_at)
    if any(datetime.fromisoformat(command.started_at) >= kept_at for command in commands):
        return False
    with contextlib.suppress(GuestFailed):
        async with live.used():
            return not (await diff(live.guest, DiffRequest(max_bytes=0))).entries
    return False


def _remove_unnamed(core: Core, before: WorkspaceRecord, disk: str) -> None:
    """Remove what a reset left over: the new disk if it failed, else the one that had been kept until then.

    What cannot be removed now goes at the daemon's next start: nobody must be led to try a reset again that is done.
    """
    try:
        record = core.records.get(before.workspace_id)
        for each in {disk, *before.disks} - {*record.disks}:
            core.places.remove_disk(before.workspace_id, each)
    except PyroError as error:
        log.warning("a disk of %s that is not needed any more stays for now: %s", before.workspace_id, error.message)


def _deadline(record: WorkspaceRecord) -> str | None:
    if record.ttl_seconds is None:
        return None
    if record.expires_at is not None and not is_past(record.expires_at):
        return record.expires_at
    return after(now().isoformat(), timedelta(seconds=record.ttl_seconds))
