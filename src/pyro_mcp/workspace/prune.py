"""Removing for good what was deleted, or replaced by a reset."""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import AsyncExitStack

from pyro_mcp.errors import Conflict, HostUnfit, NotFound, PyroError
from pyro_mcp.images import uses
from pyro_mcp.to_the_end import to_the_end
from pyro_mcp.workspace.core import Core
from pyro_mcp.workspace.database import NO_SPACE
from pyro_mcp.workspace.record import (
    CREATING,
    DELETED,
    KEPT_FOR,
    PURGED,
    KeptDisk,
    WorkspaceRecord,
    after,
    is_past,
)
from pyro_mcp.workspace_models import PrunedWorkspaces

log = logging.getLogger(__name__)


async def prune(core: Core, records: Iterable[WorkspaceRecord], *, dry_run: bool) -> PrunedWorkspaces:
    """Remove it of these workspaces, or with `dry_run` only say what would be removed; counts bytes on disk.

    What somebody has restored or replaced meanwhile is left alone. Raises `Conflict` where somebody else still uses one
    of them after the usual wait, but not before all the others have had their turn.
    """
    found: list[tuple[str, int]] = []
    busy: Conflict | None = None
    for record in records:
        if dry_run:
            removed = await asyncio.to_thread(_would_free, core, record)
        else:
            try:
                removed = await _free_alone(core, record)
            except Conflict as error:
                busy, removed = busy or error, None
        if removed is not None:
            found.append(removed)
    if busy is not None:
        raise busy
    return PrunedWorkspaces(tuple(what for what, _ in found), sum(freed for _, freed in found), dry_run)


async def prune_old(core: Core) -> None:
    """Remove what has been kept for as long as was promised; a workspace that somebody uses has to wait."""
    for record in await asyncio.to_thread(core.records.all):
        if not _is_old(record):
            continue
        try:
            await _free_alone(core, record, wait=False)
        except TimeoutError:
            log.info("%s is in use: what it has kept for a week goes later", record.workspace_id)
        except PyroError as error:
            log.error("cannot remove what %s has kept for a week: %s", record.workspace_id, error.message)


def remove_for_good(core: Core, workspace_id: str, *, in_states: Iterable[str] = (CREATING, DELETED)) -> int | None:
    """Remove a workspace with all its files, unless it is in another state; returns the bytes that this frees.

    The record goes last: a kill in the middle leaves one from which the next daemon goes on.
    """
    states = (*in_states, PURGED)
    freed = 0
    try:
        purged = core.records.purge(workspace_id, in_states=states)
    except HostUnfit as error:
        record = core.records.get(workspace_id)
        if error.code != NO_SPACE or record.state not in states:
            raise
        # Not even the reserve is left, and nothing but to remove files makes room. That is safe: whoever comes upon a
        # deleted workspace without a disk finishes this and offers nothing to restore. So its disk goes first of what
        # it needs, after the one that an earlier reset left.
        freed = sum(core.places.remove_disk(workspace_id, disk) for disk in reversed(record.disks))
        freed += core.places.remove(workspace_id)
        purged = core.records.purge(workspace_id, in_states=states)
    if not purged:
        return None
    freed += core.places.remove(workspace_id)
    uses.release(core.images, core.places.folder(workspace_id))
    core.records.remove(workspace_id)
    return freed


async def _free_alone(core: Core, record: WorkspaceRecord, *, wait: bool = True) -> tuple[str, int] | None:
    """Free what the record tells of, if it is still there once the workspace is ours alone.

    Raises `Conflict` where others do not let go of it, or without `wait` at once `TimeoutError`.
    """
    if record.state != DELETED and record.kept is None:
        return None
    async with AsyncExitStack() as held:
        # A hold that is free is had at once, so that no time is no danger to it.
        async with asyncio.timeout(None if wait else 0):
            await held.enter_async_context(core.holds.exclusive(record.workspace_id))
        return await to_the_end(asyncio.to_thread(_free, core, record, only_old=not wait))


def _free(core: Core, asked: WorkspaceRecord, *, only_old: bool) -> tuple[str, int] | None:
    """Under an exclusive hold: the record is read again, since much may have happened until we had that."""
    try:
        record = core.records.get(asked.workspace_id)
    except NotFound:
        return None
    if _recoverable(record) != _recoverable(asked) or (only_old and not _is_old(record)):
        return None
    if record.state == DELETED:
        freed = remove_for_good(core, record.workspace_id, in_states=(DELETED,))
        return None if freed is None else (_workspace(record), freed)
    freed = None if record.kept is None else _free_kept(core, record.workspace_id, record.kept)
    return None if freed is None else (_kept_disk(record), freed)


def _free_kept(core: Core, workspace_id: str, kept: KeptDisk) -> int | None:
    freed = 0
    try:
        dropped = core.records.drop_kept(workspace_id, kept)
    except HostUnfit as error:
        if error.code != NO_SPACE:
            raise
        # As in `remove_for_good`: a kept disk that is not there is not offered to anybody.
        freed = core.places.remove_disk(workspace_id, kept.disk)
        dropped = core.records.drop_kept(workspace_id, kept)
    return freed + core.places.remove_disk(workspace_id, kept.disk) if dropped else None


def _would_free(core: Core, record: WorkspaceRecord) -> tuple[str, int] | None:
    if record.state == DELETED:
        return _workspace(record), core.places.folder_bytes(record.workspace_id)
    if record.kept is not None:
        return _kept_disk(record), core.places.disk_bytes(record.workspace_id, record.kept.disk)
    return None


def _recoverable(record: WorkspaceRecord) -> object:
    """What can be had back of it: another such object means that this is not what it was."""
    return record.deleted_at if record.state == DELETED else record.kept


def _workspace(record: WorkspaceRecord) -> str:
    return f"workspace {record.workspace_id}"


def _kept_disk(record: WorkspaceRecord) -> str:
    return f"disk of {record.workspace_id} before its reset"


def _is_old(record: WorkspaceRecord) -> bool:
    since = record.deleted_at if record.state == DELETED else record.kept.kept_at if record.kept is not None else None
    return since is not None and is_past(after(since, KEPT_FOR))
