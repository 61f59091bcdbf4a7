"""Nobody's work is lost when a change of a workspace fails, is tried again, or meets another; the guests are fake."""

import asyncio
import itertools
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyro_mcp.errors import GuestFailed, HostUnfit
from pyro_mcp.workspace import boot, create, kept, lifecycle, live
from pyro_mcp.workspace.engine import Workspaces
from pyro_mcp.workspace.places import Places
from pyro_mcp.workspace_models import CreateWorkspace, ResetWorkspace, RestoreWorkspace
from tests.support.fake_kept import Engine, only_close
from tests.support.nobody import nobody
from tests.unit.workspace.notes import read, write

DEBIAN = CreateWorkspace("debian:12")


async def _nothing(*_of: object) -> None:
    """Dead daemons do nothing."""


async def with_two_disks(workspaces: Workspaces) -> str:
    """A workspace whose disk says "now", and that keeps one that says "before"."""
    w = (await workspaces.create(DEBIAN, nobody)).workspace_id
    await write(workspaces, w, "before")
    await workspaces.reset(w, ResetWorkspace())
    await write(workspaces, w, "now")
    return w


def disks(engine: Engine, workspace: str) -> list[str]:
    return sorted(path.name for path in (engine.home / "workspaces" / workspace).glob("*.ext4"))


@contextmanager
def impatience(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """While none but guests come up that never answer."""
    with monkeypatch.context() as patched:
        patched.setattr(boot, "_READY_SECONDS", 0.1)
        patched.setattr(boot, "_LAST_READY_SECONDS", 0.1)
        yield patched


async def test_a_reset_that_fails_however_often_changes_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine.open() as workspaces:
        w = await with_two_disks(workspaces)
        before = disks(engine, w)
        for _ in range(3):
            engine.boots.mute = 2
            with impatience(monkeypatch), pytest.raises(GuestFailed):
                await workspaces.reset(w, ResetWorkspace())
            info = workspaces.info(w)
            assert (info.state, info.stopped_because, info.recoverable) == ("stopped", "machine-died", ("reset",))
            assert (disks(engine, w), engine.boots.alive) == (before, 0)
        engine.boots.mute = 0
        assert await read(workspaces, w) == "now"
        await workspaces.restore(w, RestoreWorkspace())
        assert await read(workspaces, w) == "before"


async def test_a_start_that_fails_says_how_to_go_on_without_its_disk(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine.open() as workspaces:
        w = (await workspaces.create(DEBIAN, nobody)).workspace_id
        await workspaces.stop(w)
        engine.boots.mute = 2
        with impatience(monkeypatch), pytest.raises(GuestFailed) as caught:
            await workspaces.start(w)
        assert f"`pyro workspace reset {w}`" in str(caught.value.hint)
        engine.boots.mute = 2
        with impatience(monkeypatch), pytest.raises(GuestFailed) as caught:
            await workspaces.create(DEBIAN, nobody)
        assert "reset" not in str(caught.value.hint)


async def test_what_the_user_stopped_is_still_stopped_by_the_user_when_a_reset_fails(engine: Engine) -> None:
    async with engine.open() as workspaces:
        w = await with_two_disks(workspaces)
        await workspaces.stop(w)
        engine.boots.unfit = True
        with pytest.raises(HostUnfit):
            await workspaces.reset(w, ResetWorkspace())
        assert workspaces.info(w).stopped_because == "user"


async def test_a_daemon_that_is_killed_in_a_reset_leaves_the_disks_as_they_were(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine.open() as first:
        w = await with_two_disks(first)
        before = disks(engine, w)
        with impatience(monkeypatch) as dead:  # as if it had been killed while the guest came up
            dead.setattr(kept, "kill", _nothing)
            dead.setattr(kept, "_kill_and_close", only_close)
            dead.setattr(live.Machines, "_not_started", lambda _self, _record: None)
            dead.setattr(lifecycle, "_remove_unnamed", lambda *_of: None)
            # A VMM that is not ended keeps its disk; the second try finds it locked.
            dead.setattr(kept, "_DISK_SECONDS", 0.1)
            engine.boots.mute = 2
            with pytest.raises(Exception, match=r"did not answer|another machine"):
                await first.reset(w, ResetWorkspace())
    assert engine.boots.alive > 0
    assert len(disks(engine, w)) == 3
    for guest in engine.boots.guests[:-1]:
        guest.die()
    engine.boots.mute = 0
    async with engine.open() as second:
        assert disks(engine, w) == before
        assert engine.boots.alive == 0
        await second.reset(w, ResetWorkspace())  # what a client does whose first try was cut off
        await second.restore(w, RestoreWorkspace())
        assert await read(second, w) == "now"


async def test_a_reset_that_is_done_does_not_fail_for_what_it_leaves_over(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stuck(_places: Places, _workspace_id: str, _disk: str) -> int:
        raise HostUnfit("home_unusable", "cannot remove it")

    async with engine.open() as workspaces:
        w = await with_two_disks(workspaces)
        with monkeypatch.context() as broken:
            broken.setattr(Places, "remove_disk", stuck)
            assert (await workspaces.reset(w, ResetWorkspace())).state == "running"
        assert len(disks(engine, w)) == 3
        await workspaces.restore(w, RestoreWorkspace())
        assert await read(workspaces, w) == "now"
    async with engine.open():
        assert len(disks(engine, w)) == 2


def draw(monkeypatch: pytest.MonkeyPatch, *drawn: str) -> None:
    """Let the next ids be these."""
    letters, by_chance = itertools.chain.from_iterable(drawn), secrets.choice
    monkeypatch.setattr("pyro_mcp.workspace.names.secrets.choice", lambda some: next(letters, None) or by_chance(some))


async def test_two_that_are_made_at_once_never_get_one_id(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(monkeypatch, "aaaa", "aaaa", "bbbb")
    async with engine.open() as workspaces:
        made = await asyncio.gather(*(workspaces.create(DEBIAN, nobody) for _ in range(2)))
        assert {info.workspace_id for info in made} == {"w-aaaa", "w-bbbb"}
        assert [info.state for info in workspaces.list(deleted=False)] == ["running"] * 2


async def test_a_folder_that_no_record_knows_is_never_taken_for_a_new_workspace(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = engine.home / "workspaces" / "w-aaaa"
    unknown.mkdir(parents=True)
    (unknown / "disk-1.ext4").write_bytes(b"somebody's work")
    draw(monkeypatch, "aaaa", "bbbb")
    async with engine.open() as workspaces:
        assert (await workspaces.create(DEBIAN, nobody)).workspace_id == "w-bbbb"
    assert (unknown / "disk-1.ext4").read_bytes() == b"somebody's work"


async def test_a_making_that_fails_takes_back_nothing_of_others(engine: Engine) -> None:
    async with engine.open() as workspaces:
        w = await with_two_disks(workspaces)
        with pytest.raises(sqlite3.IntegrityError):
            await create.create(workspaces._core, w, DEBIAN, nobody)
        assert workspaces.info(w).state == "running"
        assert await read(workspaces, w) == "now"


@pytest.mark.parametrize("rest", ["", "workspaces"])
async def test_a_home_that_cannot_be_written_is_told_of(tmp_path: Path, rest: str) -> None:
    home = tmp_path / "home"
    (home / rest).parent.mkdir(exist_ok=True)
    (home / rest).write_text("no folder")
    with pytest.raises(HostUnfit) as caught:
        Places(home).make("w-aaaa")
    assert caught.value.code == "home_unusable"
    assert caught.value.hint


async def test_a_folder_that_cannot_be_removed_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    places = Places(tmp_path)
    places.make("w-aaaa")
    (places.folder("w-aaaa") / "disk-1.ext4").mkdir()
    with pytest.raises(HostUnfit):
        places.remove_disk("w-aaaa", "disk-1.ext4")
    monkeypatch.setattr("shutil.rmtree", denied)
    with pytest.raises(HostUnfit) as caught:
        places.remove("w-aaaa")
    assert (caught.value.code, "Permission denied" in caught.value.message) == ("home_unusable", True)
