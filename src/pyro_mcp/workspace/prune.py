"""Removing for good what was deleted, or replaced by a reset."""

import asyncio
from collections.abc import Iterable

from pyro_mcp.images import uses
from pyro_mcp.workspace.core import Core
from pyro_mcp.workspace.record import (
    CREATING,
    DELETED,
    KEPT_FOR,
    PURGED,
    WorkspaceRecord,
    after,
    is_past,
)
from pyro_mcp.workspace_models import PrunedWorkspaces


async def prune(core: Core, records: Iterable[WorkspaceRecord], *, dry_run: bool) -> PrunedWorkspaces:
    """Remove it of these workspaces, or with `dry_run` only say what would be removed; counts bytes on disk."""
    removed: list[str] = []
    freed = 0
    for record in records:
        found = await asyncio.to_thread(_would_free if dry_run else _free, core, record)
        if found is not None:
            removed.append(found[0])
            freed += found[1]
    return PrunedWorkspaces(tuple(removed), freed, dry_run)


async def prune_old(core: Core) -> None:
    """Remove what has been kept for as long as was promised."""
    records = await asyncio.to_thread(core.records.all)
    await prune(core, [record for record in records if _is_old(record)], dry_run=False)


def remove_for_good(core: Core, workspace_id: str, *, in_states: Iterable[str] = (CREATING, DELETED)) -> int | None:
    """Remove a workspace with all its files, unless it is in another state; returns the bytes that this frees.

    The record goes last: a kill in the middle leaves one from which the next daemon goes on.
    """
    if not core.records.purge(workspace_id, in_states=(*in_states, PURGED)):
        return None
    freed = core.places.remove(workspace_id)
    uses.release(core.images, core.places.folder(workspace_id))
    core.records.remove(workspace_id)
    return freed


def _free(core: Core, record: WorkspaceRecord) -> tuple[str, int] | None:
    if record.state == DELETED:
        freed = remove_for_good(core, record.workspace_id, in_states=(DELETED,))
        return None if freed is None else (_workspace(record), freed)
    if record.kept is not None and core.records.drop_kept(record.workspace_id, record.kept):
        return _kept_disk(record), core.places.remove_disk(record.workspace_id, record.kept.disk)
    return None


def _would_free(core: Core, record: WorkspaceRecord) -> tuple[str, int] | None:
    if record.state == DELETED:
        return _workspace(record), core.places.folder_bytes(record.workspace_id)
    if record.kept is not None:
        return _kept_disk(record), core.places.disk_bytes(record.workspace_id, record.kept.disk)
    return None


def _workspace(record: WorkspaceRecord) -> str:
    return f"workspace {record.workspace_id}"


def _kept_disk(record: WorkspaceRecord) -> str:
    return f"disk of {record.workspace_id} before its reset"


def _is_old(record: WorkspaceRecord) -> bool:
    since = record.deleted_at if record.state == DELETED else record.kept.kept_at if record.kept is not None else None
    return since is not None and is_past(after(since, KEPT_FOR))
