"""A PYRO_HOME on a full disk: what frees room works all the same, and what has ended is written down; fake guests."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pyro_mcp.errors import Conflict, HostUnfit
from pyro_mcp.workspace import database, reserve
from pyro_mcp.workspace.database import Database
from pyro_mcp.workspace.engine import Workspaces
from pyro_mcp.workspace.places import Places
from pyro_mcp.workspace.reserve import RESERVED_BYTES, Reserve
from pyro_mcp.workspace_models import CreateWorkspace, PruneWorkspaces, ResetWorkspace, RestoreWorkspace
from tests.support.fake_kept import Engine
from tests.support.full_disk import FullDisk
from tests.support.nobody import nobody
from tests.support.waiting import until
from tests.unit.workspace.notes import read, write

DEBIAN = CreateWorkspace("debian:12")
ALL = PruneWorkspaces()


@pytest.fixture
async def reserved(engine: Engine, workspaces: Workspaces) -> Reserve:
    """The reserve, once it is there."""
    await until(lambda: is_there(engine))
    return Reserve(engine.home)


def is_there(engine: Engine) -> bool:
    path = engine.home / reserve.FILE_NAME
    return path.exists() and path.stat().st_blocks * 512 >= RESERVED_BYTES


@contextmanager
def no_room() -> Iterator[pytest.ExceptionInfo[HostUnfit]]:
    with pytest.raises(HostUnfit) as caught:
        yield caught
    assert caught.value.code == "no_disk_space"


async def made(workspaces: Workspaces) -> str:
    return (await workspaces.create(DEBIAN, nobody)).workspace_id


async def test_a_workspace_stops_and_is_deleted_and_pruned(
    engine: Engine, workspaces: Workspaces, reserved: Reserve, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await made(workspaces), await made(workspaces)
    FullDisk(engine.home, monkeypatch)
    assert (await workspaces.stop(first)).stopped_because == "user"
    assert not is_there(engine)
    assert (await workspaces.delete(second)).state == "deleted"
    assert engine.boots.alive == 0
    assert (await workspaces.prune(ALL)).removed == (f"workspace {second}",)
    assert is_there(engine)  # there is room for it again


async def test_a_prune_alone_needs_nothing_but_the_reserve(
    engine: Engine, workspaces: Workspaces, reserved: Reserve, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted, was_reset = await made(workspaces), await made(workspaces)
    await write(workspaces, was_reset, "before")
    await workspaces.reset(was_reset, ResetWorkspace())
    await workspaces.delete(deleted)
    FullDisk(engine.home, monkeypatch)
    await workspaces.prune(PruneWorkspaces(dry_run=True))
    assert (await workspaces.prune(ALL)).removed == (f"workspace {deleted}", f"disk of {was_reset} before its reset")
    assert is_there(engine)


async def test_a_prune_works_where_no_reserve_is_left(
    engine: Engine, workspaces: Workspaces, reserved: Reserve, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted, was_reset = await made(workspaces), await made(workspaces)
    await write(workspaces, was_reset, "before")
    await workspaces.reset(was_reset, ResetWorkspace())
    await workspaces.delete(deleted)
    reserved.give_up()
    disk = FullDisk(engine.home, monkeypatch)
    one = await workspaces.prune(PruneWorkspaces(workspace=deleted))
    assert (one.removed, one.freed_bytes > 0) == ((f"workspace {deleted}",), True)
    reserved.give_up()
    disk.fill()
    other = await workspaces.prune(ALL)
    assert (other.removed, other.freed_bytes > 0) == ((f"disk of {was_reset} before its reset",), True)
    assert workspaces.info(was_reset).recoverable == ()


async def test_what_ended_and_cannot_be_written_down_is_told_and_can_be_done_again(
    engine: Engine, workspaces: Workspaces, reserved: Reserve
) -> None:
    w = await made(workspaces)
    reserved.give_up()
    with pytest.MonkeyPatch.context() as patched:
        FullDisk(engine.home, patched)
        with pytest.raises(HostUnfit) as caught:
            await workspaces.stop(w)
    assert caught.value.code == "no_disk_space"
    assert f"no machine of {w} runs any more, but that cannot be written down" in caught.value.message
    assert str(caught.value.hint).endswith("then do the same again")
    assert engine.boots.alive == 0
    assert (await workspaces.stop(w)).stopped_because == "user"


async def test_what_is_half_removed_is_not_offered_and_is_finished(engine: Engine) -> None:
    """As where the daemon is killed between the removal of a disk and what is written down of it."""
    async with engine.open() as first:
        pruned, adopted, was_reset = [await made(first) for _ in range(3)]
        await write(first, was_reset, "before")
        await first.reset(was_reset, ResetWorkspace())
        places = Places(engine.home)
        for deleted in (pruned, adopted):
            record = await first._core.record(deleted)
            await first.delete(deleted)
            places.remove_disk(deleted, record.disk)
        kept = (await first._core.record(was_reset)).kept
        assert kept is not None
        places.remove_disk(was_reset, kept.disk)
        for each in (pruned, was_reset):
            assert first.info(each).recoverable == ()
            with pytest.raises(Conflict) as caught:
                await first.restore(each, RestoreWorkspace())
            assert caught.value.code == "nothing_to_restore"
        assert first.info(was_reset).state == "running"
        await first.prune(PruneWorkspaces(workspace=pruned))
        assert [info.workspace_id for info in first.list(deleted=True)] == [adopted]
    async with engine.open() as second:
        assert second.list(deleted=True) == ()
        assert not places.folder(adopted).exists()


async def test_a_daemon_starts_on_a_full_disk(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    async with engine.open() as first:
        w = await made(first)
        await write(first, w, "here")
    Reserve(engine.home).keep()
    FullDisk(engine.home, monkeypatch)
    async with engine.open() as second:
        assert await read(second, w) == "here"


async def test_without_a_reserve_it_says_what_helps(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    async with engine.open() as first:
        await made(first)
    Reserve(engine.home).give_up()
    FullDisk(engine.home, monkeypatch)
    async with engine.open() as second:
        with no_room() as caught:
            second.list(deleted=False)
        assert f"free some space on the disk of {engine.home}" in str(caught.value.hint)
        assert "prune" not in str(caught.value.hint)


def test_the_last_room_is_not_reserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reserve, "RESERVED_BYTES", 1 << 60)
    Reserve(tmp_path).keep()
    assert not (tmp_path / reserve.FILE_NAME).exists()
    assert not Reserve(tmp_path).give_up()


def test_a_reserve_that_cannot_be_made_is_not_left_half_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", fails)
    Reserve(tmp_path).keep()
    assert not (tmp_path / reserve.FILE_NAME).exists()
    assert "No space left" in caplog.text


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE])
def test_what_sqlite_says_on_a_full_disk_is_told_with_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fails(*_: object, **_options: object) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = code
        raise error

    with closing(Database(tmp_path / "state.db", "", durable=False)) as opened, monkeypatch.context() as patched:
        patched.setattr(database, "_connect", fails)
        with pytest.raises(HostUnfit) as caught:
            opened.checkpoint()
    hint = str(caught.value.hint)
    assert caught.value.code == "no_disk_space"
    assert "`pyro workspace prune`" in hint
    assert str(tmp_path) in hint
