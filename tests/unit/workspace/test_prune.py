"""Pruning beside those who change the same workspace at the same time; the guests are fake."""

import asyncio
import sqlite3

import pytest

from pyro_mcp.errors import Conflict
from pyro_mcp.workspace import lifecycle, prune
from pyro_mcp.workspace.engine import Workspaces
from pyro_mcp.workspace.files import write_file
from pyro_mcp.workspace.record import WorkspaceRecord
from pyro_mcp.workspace.records import FILE_NAME
from pyro_mcp.workspace_models import (
    CreateWorkspace,
    PruneWorkspaces,
    ResetWorkspace,
    RestoreWorkspace,
    WriteFile,
)
from tests.support.fake_kept import Engine
from tests.support.nobody import nobody

DEBIAN = CreateWorkspace("debian:12")


async def was_reset(workspaces: Workspaces) -> str:
    w = (await workspaces.create(DEBIAN, nobody)).workspace_id
    await workspaces.reset(w, ResetWorkspace())
    async with workspaces.using(w) as joined:  # so that another reset has something to keep
        await write_file(joined.guest, WriteFile("notes", b"used"))
    return w


def disk_files(engine: Engine, workspace: str) -> set[str]:
    return {path.name for path in (engine.home / "workspaces" / workspace).glob("*.ext4")}


def named(record: WorkspaceRecord) -> set[str]:
    return {record.disk, *([record.kept.disk] if record.kept else [])}


def make_old(engine: Engine) -> None:
    with sqlite3.connect(engine.home / FILE_NAME) as connection:
        connection.execute("UPDATE kept_disks SET kept_at = '2020-01-01T00:00:00+00:00'")
    connection.close()


async def test_a_disk_that_is_kept_only_since_pruning_was_asked_for_stays(
    engine: Engine, workspaces: Workspaces
) -> None:
    w = await was_reset(workspaces)
    core = workspaces._core
    async with core.holds.exclusive(w):
        pruning = asyncio.create_task(workspaces.prune(PruneWorkspaces(workspace=w)))
        done, _ = await asyncio.wait((pruning,), timeout=0.05)
        assert not done
        await lifecycle.reset(core, await core.record(w), ResetWorkspace())
    assert (await pruning).removed == ()
    assert workspaces.info(w).recoverable == ("reset",)
    assert disk_files(engine, w) == named(core.records.get(w))


async def test_pruning_waits_for_a_restore(
    engine: Engine, workspaces: Workspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the machine would be ended for a disk that is gone then."""
    w = await was_reset(workspaces)
    core = workspaces._core
    before = core.records.get(w)
    ending, go_on, end = asyncio.Event(), asyncio.Event(), core.machines.end

    async def slow(record: WorkspaceRecord, *, orderly: bool = True) -> None:
        ending.set()
        await go_on.wait()
        await end(record, orderly=orderly)

    monkeypatch.setattr(core.machines, "end", slow)
    restoring = asyncio.create_task(workspaces.restore(w, RestoreWorkspace()))
    await ending.wait()
    pruning = asyncio.create_task(workspaces.prune(PruneWorkspaces(workspace=w)))
    await asyncio.wait((pruning,), timeout=0.05)
    go_on.set()
    assert (await restoring).state == "running"
    assert before.kept is not None
    assert core.records.get(w).disk == before.kept.disk
    assert (await pruning).removed == ()
    assert (disk_files(engine, w), engine.boots.alive) == (named(before), 1)


async def test_no_disk_ever_gets_the_name_of_another(engine: Engine, workspaces: Workspaces) -> None:
    w = (await workspaces.create(DEBIAN, nobody)).workspace_id
    records = workspaces._core.records
    new: list[str] = []
    for _ in range(3):
        await workspaces.reset(w, ResetWorkspace())
        new.append(records.get(w).disk)
        await workspaces.restore(w, RestoreWorkspace())
        await workspaces.prune(PruneWorkspaces(workspace=w))
        assert disk_files(engine, w) == {records.get(w).disk}
    assert len(set(new)) == 3


async def test_what_is_old_but_in_use_goes_later(engine: Engine, workspaces: Workspaces) -> None:
    busy, free = await was_reset(workspaces), await was_reset(workspaces)
    make_old(engine)
    core = workspaces._core
    async with workspaces.using(busy):
        await prune.prune_old(core)
        assert workspaces.info(busy).recoverable == ("reset",)
        assert workspaces.info(free).recoverable == ()
    async with core.holds.exclusive(busy):
        await prune.prune_old(core)
        assert workspaces.info(busy).recoverable == ("reset",)
    await prune.prune_old(core)
    assert workspaces.info(busy).recoverable == ()
    assert disk_files(engine, busy) == named(core.records.get(busy))


async def test_the_age_is_looked_at_again_when_the_workspace_is_ours(
    engine: Engine, workspaces: Workspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = await was_reset(workspaces)
    core = workspaces._core
    make_old(engine)
    old = core.records.all()
    await workspaces.reset(w, ResetWorkspace())
    monkeypatch.setattr(core.records, "all", lambda: old)
    await prune.prune_old(core)
    assert workspaces.info(w).recoverable == ("reset",)
    assert disk_files(engine, w) == named(core.records.get(w))


async def test_one_that_stays_in_use_is_told_of_after_the_others_had_their_turn(
    workspaces: Workspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, free = await was_reset(workspaces), await was_reset(workspaces)
    monkeypatch.setattr(workspaces._core.holds, "_patience_seconds", 0.05)
    async with workspaces.using(busy):
        with pytest.raises(Conflict) as caught:
            await workspaces.prune(PruneWorkspaces())
        assert caught.value.code == "workspace_busy"
        assert workspaces.info(busy).recoverable == ("reset",)
        assert workspaces.info(free).recoverable == ()
