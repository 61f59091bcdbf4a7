"""Workspaces whose machines were there before them; the guests are fake."""

import asyncio
import json
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pyro_mcp.errors import Conflict, HostUnfit, InvalidRequest, NotFound
from pyro_mcp.models import Progress
from pyro_mcp.workspace import kept, unclaimed
from pyro_mcp.workspace.engine import Workspaces
from pyro_mcp.workspace.places import Places
from pyro_mcp.workspace.records import FILE_NAME
from pyro_mcp.workspace.unclaimed import Unclaimed
from pyro_mcp.workspace_models import CreateWorkspace
from tests.support.descriptors import none_left
from tests.support.fake_kept import Engine, fake_engine, runs
from tests.support.waiting import until

DEBIAN = CreateWorkspace("debian:12")


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    with none_left():
        async with fake_engine(tmp_path) as made:
            made.templates = True
            yield made
        await asyncio.sleep(0)


@pytest.fixture
def seed(tmp_path: Path) -> Path:
    folder = tmp_path / "seed"
    folder.mkdir()
    (folder / "file").write_text("content\n")
    return folder


async def nobody(_progress: Progress) -> None:
    """Nobody wants to know."""


async def one_ready(workspaces: Workspaces) -> Unclaimed:
    workspaces.pool.want(1, True)
    await until(lambda: len(workspaces.pool._ready) == 1)
    return workspaces.pool._ready[0]


async def test_a_workspace_takes_one_over(engine: Engine) -> None:
    async with engine.open() as workspaces:
        ready = await one_ready(workspaces)
        assert (workspaces.running, workspaces.list(deleted=False)) == (0, ())
        (told,) = (await workspaces.pool.describe()).machines
        assert (told.environment, told.vmm, told.vcpu_count, told.mem_mib) == ("debian:12", "fake", 1, 1024)
        assert told.host_memory_bytes is None or 0 < told.host_memory_bytes < 100 << 20
        made = await workspaces.create(DEBIAN, nobody)
        assert (made.workspace_id, made.state, workspaces.running) == (ready.workspace_id, "running", 1)
        assert len(engine.boots.guests) == 1
        (guest,) = engine.boots.guests
        prepared, begun = guest.told
        assert [kind for kind, _ in guest.told] == [b"P", b"S"]
        for name in ("host_name", "machine_id", "workspace", "seed"):
            assert prepared[1]["machine"][name] == begun[1]["machine"][name]
        assert prepared[1]["machine"]["entropy"] != begun[1]["machine"]["entropy"]
        async with workspaces.using(made.workspace_id) as live:
            await live.guest.ping()
        files = os.listdir(Places(engine.home).folder(made.workspace_id))
        assert sorted(files) == ["disk-1.ext4", "vmm"]
        workspaces.pool.want(0, False)
    assert engine.boots.alive == 1  # it outlives the daemon
    async with engine.open() as workspaces:
        async with workspaces._core.holds.exclusive(made.workspace_id):
            assert workspaces.info(made.workspace_id).state == "running"
        assert len(engine.boots.guests) == 1


async def test_what_is_to_be_said_of_this_host_is_left_for_a_user(engine: Engine) -> None:
    told: list[Progress] = []

    async def report(progress: Progress) -> None:
        told.append(progress)

    engine.notice = "this is the slow one"
    async with engine.open() as workspaces:
        await one_ready(workspaces)
        await workspaces.create(DEBIAN, report)
        workspaces.pool.want(0, False)
    assert [each.detail for each in told if each.phase == "notice"] == ["this is the slow one"]


async def test_its_vmm_sees_the_seed_in_the_file_that_it_has_open(engine: Engine, seed: Path) -> None:
    async with engine.open() as workspaces:
        ready = await one_ready(workspaces)
        places = Places(engine.home)
        with places.no_seed_yet(ready.workspace_id).open("rb") as opened_before:
            request = CreateWorkspace("debian:12", seed_path=str(seed))
            made = await workspaces.create(request, nobody)
            image = places.seed(made.workspace_id)
            assert opened_before.read(4) == b"hsqs"
            assert image.stat().st_ino == os.fstat(opened_before.fileno()).st_ino
        assert image.stat().st_mode & 0o777 == 0o444
        assert image.stat().st_size < 1 << 20
        assert made.workspace_id == ready.workspace_id
        assert engine.boots.guests[0].told[-1][1]["machine"]["seed"]
        assert sorted(os.listdir(image.parent)) == ["disk-1.ext4", "seed.sqfs", "vmm"]
        workspaces.pool.want(0, False)


async def test_one_that_fails_when_it_is_claimed_is_booted_instead(
    engine: Engine, seed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "_CLAIMED_SECONDS", 0.2)
    async with engine.open() as workspaces:
        ready = await one_ready(workspaces)
        engine.boots.guests[0].deaf = {"hello"}
        made = await workspaces.create(CreateWorkspace("debian:12", seed_path=str(seed)), nobody)
        workspaces.pool.want(0, False)
        assert (made.workspace_id, made.state) == (ready.workspace_id, "running")
        assert not ready.machine.vmm.alive
        await until(lambda: engine.boots.alive == 1)
        assert engine.boots.specs[1].seed == Places(engine.home).seed(made.workspace_id)


async def test_one_that_cannot_have_the_seed_is_booted_instead(
    engine: Engine, seed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(_self: object, _image: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Unclaimed, "take_seed", no_space)
    async with engine.open() as workspaces:
        await one_ready(workspaces)
        made = await workspaces.create(CreateWorkspace("debian:12", seed_path=str(seed)), nobody)
        workspaces.pool.want(0, False)
        assert made.state == "running"
        folder = Places(engine.home).folder(made.workspace_id)
        assert sorted(os.listdir(folder)) == ["disk-1.ext4", "seed.sqfs", "vmm"]
        await until(lambda: engine.boots.alive == 1)


async def test_a_workspace_of_another_image_does_without(engine: Engine) -> None:
    async with engine.open() as workspaces:
        ready = await one_ready(workspaces)
        object.__setattr__(ready.shape, "digest", "another")
        workspaces.pool.want(0, False)
        made = await workspaces.create(DEBIAN, nobody)
        assert made.state == "running"
        await until(lambda: engine.boots.alive == 1)
        assert Places(engine.home).ids() == {made.workspace_id}


async def test_a_workspace_that_cannot_be_made_leaves_it_for_the_next(engine: Engine) -> None:
    async with engine.open() as workspaces:
        taken = CreateWorkspace("debian:12", name="taken")
        await one_ready(workspaces)
        await workspaces.create(taken, nobody)
        ready = await one_ready(workspaces)
        with pytest.raises(Conflict):
            await workspaces.create(taken, nobody)
        assert workspaces.pool._ready == [ready]
        workspaces.pool.want(0, False)


async def test_a_seed_that_cannot_be_one_leaves_it_for_the_next(engine: Engine, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").touch()
    async with engine.open() as workspaces:
        ready = await one_ready(workspaces)
        for name in ("missing", "pipe", "text"):
            with pytest.raises((InvalidRequest, NotFound)):
                await workspaces.create(CreateWorkspace("debian:12", seed_path=str(tmp_path / name)), nobody)
        assert workspaces.pool._ready == [ready]
        workspaces.pool.want(0, False)


async def test_nothing_is_left_where_the_seed_turns_out_to_be_bad(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "bad.tar.gz").write_bytes(b"no archive")
    async with engine.open() as workspaces:
        ready = await one_ready(workspaces)
        workspaces.pool.want(0, False)
        with pytest.raises(InvalidRequest):
            await workspaces.create(CreateWorkspace("debian:12", seed_path=str(tmp_path / "bad.tar.gz")), nobody)
        assert not ready.machine.vmm.alive
        assert Places(engine.home).ids() == set()
        assert workspaces.list(deleted=False) == ()


async def test_one_that_does_not_come_up_leaves_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_BEGUN_SECONDS", 0.1)
    engine.boots.mute = 1
    async with engine.open() as workspaces:
        workspaces.pool.want(1, True)
        await until(lambda: len(engine.boots.guests) == 1 and engine.boots.alive == 0)
        await until(lambda: Places(engine.home).ids() == set())
        assert len(engine.discarded) == 1, "the template that it did not begin from"
        made = await workspaces.create(DEBIAN, nobody)
        assert made.state == "running"
        assert len(engine.discarded) == 1


async def test_the_folder_of_somebody_else_is_left_alone(engine: Engine) -> None:
    async with engine.open() as workspaces:
        core = workspaces._core
        core.places.make("w-theirs")
        host = await core.find_host(quiet=True)
        with pytest.raises(HostUnfit):
            await unclaimed.start(core.images, core.places, host, "w-theirs", "debian:12")
        assert core.places.ids() == {"w-theirs"}


async def test_without_templates_there_are_none(engine: Engine) -> None:
    engine.templates = False
    async with engine.open() as workspaces:
        workspaces.pool.want(1, True)
        await until(lambda: workspaces.pool._not_before > 0)
        await until(lambda: Places(engine.home).ids() == set())
    assert engine.boots.guests == []


async def test_the_next_daemon_removes_what_is_left_of_them_and_nothing_else(engine: Engine) -> None:
    async with engine.open() as workspaces:
        made = await workspaces.create(DEBIAN, nobody)
        lost = await workspaces.create(DEBIAN, nobody)
    places = Places(engine.home)
    for left in ("w-left", "w-none"):
        places.make(left)
    places.no_seed_yet("w-left").touch()
    (places.folder("w-left") / "disk-1.ext4").touch()
    with sqlite3.connect(engine.home / FILE_NAME) as database:
        database.execute("DELETE FROM workspaces WHERE id = ?", (lost.workspace_id,))
    database.close()
    async with engine.open():
        assert places.ids() == {made.workspace_id, lost.workspace_id}


async def test_one_taken_over_by_a_daemon_that_is_killed_meanwhile_is_removed(engine: Engine) -> None:
    """The record names the machine, which has been let go, and there is no workspace yet."""
    async with engine.open() as workspaces:
        await one_ready(workspaces)
        made = await workspaces.create(DEBIAN, nobody)
    assert engine.boots.alive == 1
    with sqlite3.connect(engine.home / FILE_NAME) as database:
        database.execute("UPDATE workspaces SET state = 'creating' WHERE id = ?", (made.workspace_id,))
    database.close()
    async with engine.open() as workspaces:
        assert workspaces.list(deleted=False) == ()
        assert Places(engine.home).ids() == set()
    assert engine.boots.alive == 0


async def test_a_machine_whose_leash_is_killed_is_replaced_at_once(engine: Engine) -> None:
    async with engine.open() as workspaces:
        ready = await one_ready(workspaces)
        assert ready._leash._keeper is not None
        os.kill(ready._leash._keeper.pid, signal.SIGKILL)
        await until(lambda: not ready.machine.vmm.alive)
        assert (await one_ready(workspaces)) is not ready
        workspaces.pool.want(0, False)


@pytest.mark.parametrize("content", ["", "{}", '{"pid": -1, "start_time": 1, "boot_id": ""}', "of another boot"])
async def test_a_process_that_its_folder_does_not_name_for_good_is_left_alone(engine: Engine, content: str) -> None:
    places = Places(engine.home)
    async with engine.open() as workspaces:
        made = await workspaces.create(DEBIAN, nobody)
        vmm = engine.boots.guests[0].process
    places.make("w-left")
    places.no_seed_yet("w-left").touch()
    if content == "of another boot":
        content = json.dumps({"pid": vmm.pid, "start_time": vmm.start_time, "boot_id": "another"})
    places.unclaimed_vmm("w-left").write_text(content)
    async with engine.open():
        assert runs(vmm)
        assert places.ids() == {made.workspace_id}
