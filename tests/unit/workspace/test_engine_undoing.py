"""Resetting and deleting, both undone again, and pruning, which is not; the guests are fake."""

import os

import pytest

from pyro_mcp.errors import Conflict, NotFound
from pyro_mcp.workspace.engine import Workspaces
from pyro_mcp.workspace_models import CreateWorkspace, PruneWorkspaces, ResetWorkspace, RestoreWorkspace
from tests.support.fake_kept import Engine
from tests.support.nobody import nobody
from tests.unit.workspace.notes import read, write

DEBIAN = CreateWorkspace("debian:12")


async def test_a_reset_begins_anew_and_can_be_undone_and_redone(engine: Engine, workspaces: Workspaces) -> None:
    made = await workspaces.create(DEBIAN, nobody)
    w = made.workspace_id
    assert made.recoverable == ()
    await write(workspaces, w, "before")
    info = await workspaces.reset(w, ResetWorkspace())
    assert (info.state, info.recoverable) == ("running", ("reset",))
    assert await read(workspaces, w) is None
    await write(workspaces, w, "after")
    assert (await workspaces.restore(w, RestoreWorkspace())).state == "running"
    assert await read(workspaces, w) == "before"
    await workspaces.restore(w, RestoreWorkspace())
    assert await read(workspaces, w) == "after"
    await workspaces.reset(w, ResetWorkspace())
    assert await read(workspaces, w) is None
    assert len([name for name in os.listdir(engine.home / "workspaces" / w) if name.endswith(".ext4")]) == 2
    await workspaces.restore(w, RestoreWorkspace())
    assert await read(workspaces, w) == "after"
    with pytest.raises(NotFound) as caught:
        await workspaces.reset(w, ResetWorkspace("nowhere"))
    assert caught.value.code == "unknown_snapshot"
    assert engine.boots.alive == 1


async def test_a_reset_of_what_nobody_has_used_since_the_last_one_keeps_what_that_left(
    engine: Engine, workspaces: Workspaces
) -> None:
    w = (await workspaces.create(DEBIAN, nobody)).workspace_id
    await write(workspaces, w, "before")
    for _ in range(3):
        assert (await workspaces.reset(w, ResetWorkspace())).recoverable == ("reset",)
    assert len([name for name in os.listdir(engine.home / "workspaces" / w) if name.endswith(".ext4")]) == 2
    await workspaces.restore(w, RestoreWorkspace())
    assert await read(workspaces, w) == "before"


async def test_what_was_brought_back_is_not_taken_for_unused(engine: Engine, workspaces: Workspaces) -> None:
    w = (await workspaces.create(DEBIAN, nobody)).workspace_id  # whatever it holds, no diff tells of it
    await workspaces.reset(w, ResetWorkspace())
    first = workspaces._core.records.get(w).kept
    assert first is not None
    await workspaces.restore(w, RestoreWorkspace())
    await workspaces.reset(w, ResetWorkspace())
    kept = workspaces._core.records.get(w).kept
    assert kept is not None
    assert kept.disk == first.disk


async def test_deleting_hides_and_restoring_brings_back(engine: Engine, workspaces: Workspaces) -> None:
    w = (await workspaces.create(CreateWorkspace("debian:12", name="mine"), nobody)).workspace_id
    await write(workspaces, w, "kept")
    gone = await workspaces.delete("mine")
    assert (gone.state, gone.recoverable) == ("deleted", ("delete",))
    assert gone.recoverable_until is not None
    assert (engine.boots.alive, workspaces.list(deleted=False)) == (0, ())
    assert workspaces.list(deleted=True) == (gone,)
    assert await workspaces.delete(w) == gone
    with pytest.raises(Conflict) as caught:
        await read(workspaces, w)
    assert caught.value.code == "workspace_deleted"
    other = await workspaces.create(CreateWorkspace("debian:12", name="mine"), nobody)
    with pytest.raises(Conflict) as caught:
        await workspaces.restore(w, RestoreWorkspace())
    assert caught.value.code == "name_in_use"
    back = await workspaces.restore(w, RestoreWorkspace(name="again"))
    assert (back.state, back.name, back.deleted_at) == ("stopped", "again", None)
    assert await read(workspaces, "again") == "kept"
    assert workspaces.info("mine").workspace_id == other.workspace_id
    with pytest.raises(Conflict) as caught:
        await workspaces.restore("again", RestoreWorkspace())
    assert caught.value.code == "nothing_to_restore"


async def test_pruning_removes_for_good(engine: Engine, workspaces: Workspaces) -> None:
    deleted = (await workspaces.create(DEBIAN, nobody)).workspace_id
    was_reset = (await workspaces.create(DEBIAN, nobody)).workspace_id
    await workspaces.delete(deleted)
    await workspaces.reset(was_reset, ResetWorkspace())
    planned = await workspaces.prune(PruneWorkspaces(dry_run=True))
    assert planned.removed == (f"workspace {deleted}", f"disk of {was_reset} before its reset")
    assert planned.freed_bytes > 0
    assert (await workspaces.prune(PruneWorkspaces(workspace=was_reset))).removed == planned.removed[1:]
    done = await workspaces.prune(PruneWorkspaces())
    assert done.removed == planned.removed[:1]
    assert workspaces.list(deleted=True) == ()
    assert os.listdir(engine.home / "workspaces") == [was_reset]
    assert workspaces.info(was_reset).recoverable == ()
    with pytest.raises(NotFound):
        await workspaces.restore(deleted, RestoreWorkspace())
    await workspaces.delete(was_reset)
    await workspaces.prune(PruneWorkspaces())
    assert os.listdir(engine.home / "workspaces") == []
    assert list((engine.images.cache_dir / "uses").iterdir()) == []
