"""What the next daemon finds of the one before it, however that one ended; the guests are fake."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from pyro_mcp import process_watch
from pyro_mcp.errors import HostUnfit, NotFound
from pyro_mcp.images import prune as prune_images
from pyro_mcp.images.pull import pull
from pyro_mcp.process import Detached
from pyro_mcp.vmm import cgroup
from pyro_mcp.vmm.channel import listening
from pyro_mcp.vmm.machine import OpenChannel
from pyro_mcp.workspace import adopt, create, history, kept, live
from pyro_mcp.workspace.commands import CommandRunner
from pyro_mcp.workspace.engine import Workspaces
from pyro_mcp.workspace.records import FILE_NAME, Records
from pyro_mcp.workspace_models import (
    CreateWorkspace,
    ExecInfo,
    ExecRequest,
    PruneWorkspaces,
    ResetWorkspace,
)
from tests.support.descriptors import none_left
from tests.support.fake_api import DONE, FakeApi
from tests.support.fake_kept import Engine, only_close, runs
from tests.support.nobody import nobody
from tests.support.waiting import until
from tests.unit.images.fake_source import FakeSource

DEBIAN = CreateWorkspace("debian:12")


async def made_by_another(engine: Engine) -> str:
    async with engine.open() as workspaces:
        return (await workspaces.create(DEBIAN, nobody)).workspace_id


async def settled(workspaces: Workspaces, workspace: str) -> str:
    """A workspace's state once its machine has been joined, or found to be gone."""
    async with workspaces._core.holds.exclusive(workspace):
        pass
    return workspaces.info(workspace).state


async def test_machines_and_commands_live_on_without_a_daemon(engine: Engine) -> None:
    async with engine.open() as first:
        w = (await first.create(DEBIAN, nobody)).workspace_id
        async with first.using(w) as joined:
            command = await joined.runner.start(ExecRequest(("cat", "/dev/zero"), timeout_seconds=60))
    assert engine.boots.alive == 1
    async with engine.open() as second:
        assert second.running == 1
        async with second.using(w) as joined:
            assert joined.runner.running(command.exec_id).exec_id == command.exec_id
        assert second.exec(w, command.exec_id).status == "running"
        assert len(engine.boots.guests) == 1
        await second.stop(w)
        assert second.exec(w, command.exec_id).status == "lost"
    assert engine.boots.alive == 0


async def test_a_balloon_that_the_last_daemon_left_full_is_emptied(engine: Engine) -> None:
    w = await made_by_another(engine)
    vmm = FakeApi(DONE)
    with listening(engine.home / "workspaces" / w / "vmm" / "api.sock") as listener:
        async with await asyncio.start_unix_server(vmm, sock=listener):
            async with engine.open() as second:
                assert await settled(second, w) == "running"
            await vmm.left.wait()
    assert vmm.asked == [("PATCH /balloon HTTP/1.1", {"amount_mib": 0})]


async def test_a_machine_that_died_without_a_daemon_is_noticed(engine: Engine) -> None:
    async with engine.open() as first:
        w = (await first.create(DEBIAN, nobody)).workspace_id
        async with first.using(w) as joined:
            command = await joined.runner.start(ExecRequest(("sleep", "1000"), timeout_seconds=60))
    engine.boots.guests[0].die()
    await until(lambda: engine.boots.alive == 0)
    async with engine.open() as second:
        info = second.info(w)
        assert (info.state, info.stopped_because, info.running_commands) == ("stopped", "machine-died", 0)
        assert second.exec(w, command.exec_id).status == "lost"
        async with second.using(w):
            assert second.info(w).state == "running"


async def test_a_restart_of_the_host_is_told_from_a_machine_that_died(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    w = await made_by_another(engine)
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("another\n")
    with monkeypatch.context() as restarted:
        restarted.setattr(process_watch, "_BOOT_ID", boot_id)
        async with engine.open() as second:
            assert (second.info(w).state, second.info(w).stopped_because) == ("stopped", "host-restarted")
    assert engine.boots.alive == 1, "a process of this boot that happens to have the pid is none of ours"


async def test_a_guest_that_is_silent_when_it_is_found_again_is_given_up(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = await made_by_another(engine)
    monkeypatch.setattr(kept, "_ADOPTED_SECONDS", 0.2)
    engine.boots.guests[0].deaf.add("hello")
    async with engine.open() as second:
        assert await settled(second, w) == "stopped"
        assert second.info(w).stopped_because == "machine-died"
        assert (engine.boots.alive, second.running) == (0, 0)


async def test_a_guest_that_does_not_tell_of_its_commands_is_given_up(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = await made_by_another(engine)
    monkeypatch.setattr(live, "_ADOPT_SECONDS", 0.2)
    engine.boots.guests[0].deaf.add("commands")
    async with engine.open() as second:
        assert await settled(second, w) == "stopped"
        assert engine.boots.alive == 0


async def test_a_daemon_that_ends_while_it_joins_machines_leaves_them_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = await made_by_another(engine)
    monkeypatch.setattr(live, "_ADOPT_SECONDS", 1000.0)
    engine.boots.guests[0].deaf.add("commands")
    async with engine.open() as second:
        await until(lambda: bool(engine.boots.guests[0].asked("commands")))
        assert second.running == 1
    assert engine.boots.alive == 1
    engine.boots.guests[0].deaf.clear()
    async with engine.open() as third:
        assert await settled(third, w) == "running"
        assert engine.boots.alive == 1


async def _nothing(*_of: object) -> None:
    """Dead daemons do nothing."""


async def test_what_was_half_made_is_removed_with_its_machine(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.boots.mute = 1
    async with engine.open() as first:
        making = asyncio.create_task(first.create(DEBIAN, nobody))
        await until(lambda: bool(engine.boots.guests and engine.boots.guests[0].sessions))
        (info,) = first.list(deleted=False)
        with monkeypatch.context() as dead:  # as if it had been killed: nobody cleans up
            dead.setattr(kept, "kill", _nothing)
            dead.setattr(kept, "_kill_and_close", only_close)
            dead.setattr(live.Machines, "_not_started", lambda _self, _record: None)
            dead.setattr(create, "_take_back", _nothing)
            making.cancel()
            await asyncio.wait((making,))
    folder = engine.home / "workspaces" / info.workspace_id
    assert (engine.boots.alive, folder.exists()) == (1, True)
    async with engine.open() as second:
        assert engine.boots.alive == 0
        assert second.list(deleted=False) == ()
        with pytest.raises(NotFound):
            second.info(info.workspace_id)
        assert not folder.exists()


def change(engine: Engine, statement: str, *values: object, file: str = FILE_NAME) -> None:
    """Write into the state what a daemon that was killed would have left there."""
    with sqlite3.connect(engine.home / file) as connection:
        connection.execute(statement, values)
    connection.close()


@pytest.mark.parametrize("state", ["stopped", "deleted"])
async def test_a_machine_that_nobody_was_told_of_is_ended(engine: Engine, state: str) -> None:
    w = await made_by_another(engine)
    change(engine, "UPDATE workspaces SET state = ?, deleted_at = '2999-01-01T00:00:00+00:00'", state)
    async with engine.open() as second:
        assert engine.boots.alive == 0
        assert second.info(w).state == state


async def test_a_removal_that_was_interrupted_is_finished(engine: Engine) -> None:
    w = await made_by_another(engine)
    change(engine, "UPDATE workspaces SET state = 'purged'")
    async with engine.open() as second:
        assert (second.list(deleted=False), second.list(deleted=True)) == ((), ())
        assert engine.boots.alive == 0
    assert not (engine.home / "workspaces" / w).exists()
    with contextlib.closing(Records(engine.home)) as records:
        assert records.all() == ()


async def test_files_that_no_record_names_are_removed_but_no_folder_that_is_unknown(engine: Engine) -> None:
    async with engine.open() as first:
        w = (await first.create(DEBIAN, nobody)).workspace_id
        await first.reset(w, ResetWorkspace())
        await first.stop(w)
    folder = engine.home / "workspaces" / w
    before = sorted(folder.iterdir())
    (folder / "disk-9.ext4").write_bytes(b"left by a reset that was killed")
    unknown = engine.home / "workspaces" / "w-2222"
    unknown.mkdir()
    (unknown / "disk-1.ext4").write_bytes(b"somebody's work")
    async with engine.open():
        assert sorted(folder.iterdir()) == before
        assert (unknown / "disk-1.ext4").exists()


async def test_such_files_of_a_running_workspace_are_removed_too(engine: Engine) -> None:
    async with engine.open() as first:
        w = (await first.create(DEBIAN, nobody)).workspace_id
        await first.reset(w, ResetWorkspace())
    folder = engine.home / "workspaces" / w
    (folder / "seed.sqfs").write_bytes(b"a seed")
    before = sorted(folder.iterdir())
    (folder / "disk-9.ext4").write_bytes(b"left by a reset that was killed")
    async with engine.open() as second:
        assert sorted(folder.iterdir()) == before
        assert await settled(second, w) == "running"
    (folder / "left").mkdir()  # what cannot be removed keeps no machine from being taken over
    async with engine.open() as third:
        assert await settled(third, w) == "running"
        assert third.running == 1


async def test_a_machine_that_cannot_be_taken_over_for_any_reason_is_ended(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would watch it."""

    async def adopt(_runner: object) -> None:
        raise RuntimeError("nobody has thought of this")

    w = await made_by_another(engine)
    async with engine.open():
        pass
    monkeypatch.setattr(CommandRunner, "adopt", adopt)
    async with engine.open() as second:
        assert await settled(second, w) == "stopped"
        assert second.info(w).stopped_because == "machine-died"
        assert (engine.boots.alive, second.running) == (0, 0)


@pytest.fixture
def removed_groups(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the control groups that were removed."""
    removed: list[str] = []
    monkeypatch.setattr(cgroup, "remove", removed.append)
    return removed


@pytest.mark.parametrize("how", ["it died meanwhile", "its guest is silent", "nobody has thought of this"])
async def test_nothing_is_left_of_a_machine_that_cannot_be_taken_over(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, removed_groups: list[str], how: str
) -> None:
    w = await made_by_another(engine)
    guest = engine.boots.guests[0]
    left = engine.home / "workspaces" / w / "vmm"
    (left / "left").touch()
    found = kept.find_again

    async def find_again(process: Detached, open_channel: OpenChannel) -> kept.KeptMachine | None:
        assert runs(process), "it was not even tried"
        match how:
            case "it died meanwhile":
                guest.die()
                await until(lambda: not runs(process))
            case "nobody has thought of this":
                raise RuntimeError(how)
        return await found(process, open_channel)

    monkeypatch.setattr(kept, "find_again", find_again)
    monkeypatch.setattr(kept, "_ADOPTED_SECONDS", 0.2)
    guest.deaf.add("hello")
    removed_groups.clear()
    async with engine.open() as second:
        assert await settled(second, w) == "stopped"
        assert second.info(w).stopped_because == "machine-died"
        assert (engine.boots.alive, second.running) == (0, 0)
        assert not left.exists()
        assert removed_groups == [cgroup.name_for(left)]
        guest.deaf.clear()
        assert (await second.start(w)).state == "running"


async def test_what_was_kept_for_a_week_goes(engine: Engine) -> None:
    async with engine.open() as first:
        old = (await first.create(DEBIAN, nobody)).workspace_id
        young = (await first.create(DEBIAN, nobody)).workspace_id
        was_reset = (await first.create(DEBIAN, nobody)).workspace_id
        await first.delete(old)
        await first.delete(young)
        await first.reset(was_reset, ResetWorkspace())
        await first.stop(was_reset)
    change(engine, "UPDATE workspaces SET deleted_at = '2020-01-01T00:00:00+00:00' WHERE id = ?", old)
    change(engine, "UPDATE kept_disks SET kept_at = '2020-01-01T00:00:00+00:00'")
    async with engine.open() as second:
        await until(lambda: second.info(was_reset).recoverable == ())
        assert [info.workspace_id for info in second.list(deleted=True)] == [young]
    assert not (engine.home / "workspaces" / old).exists()


async def test_a_time_limit_that_passed_without_a_daemon_counts(engine: Engine) -> None:
    async with engine.open() as first:
        made = await first.create(CreateWorkspace("debian:12", ttl_seconds=3600), nobody)
    change(engine, "UPDATE workspaces SET expires_at = '2020-01-01T00:00:00+00:00'")
    async with engine.open() as second:
        await until(lambda: second.info(made.workspace_id).state == "stopped")
        assert second.info(made.workspace_id).stopped_because == "expired"


async def test_a_workspace_keeps_the_image_that_it_was_made_from(engine: Engine) -> None:
    images = engine.images
    async with engine.open() as first:
        made = await first.create(DEBIAN, nobody)
        w = made.workspace_id
        await first.stop(w)
        await pull(images, "debian:12", FakeSource(b"newer"), lambda progress: None)
        await prune_images.prune(images)
        newer = await first.create(DEBIAN, nobody)
        assert newer.environment_digest != made.environment_digest
        await first.start(w)
        assert engine.boots.specs[-1].image == images.image_folder(made.environment_digest) / "rootfs.sqfs"
        await first.delete(w)
        assert (await prune_images.prune(images)).removed == ()
        await first.prune(PruneWorkspaces(workspace=w))
        assert len((await prune_images.prune(images)).removed) == 1


async def test_a_state_that_cannot_be_read_is_left_alone_and_told_of(engine: Engine) -> None:
    w = await made_by_another(engine)
    state = engine.home / FILE_NAME
    state.write_bytes(b"rubbish" * 1000)
    async with engine.open() as second:
        for _ in range(2):
            with pytest.raises(HostUnfit) as caught:
                second.list(deleted=False)
            assert caught.value.code == "state_corrupt"
            assert str(state) in caught.value.message
        assert second.running == 0
    assert state.read_bytes() == b"rubbish" * 1000
    assert (engine.home / "workspaces" / w / "disk-1.ext4").exists()


async def test_a_history_that_cannot_be_read_is_set_aside(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    w = await made_by_another(engine)
    written = engine.home / history.FILE_NAME
    written.write_bytes(b"rubbish" * 1000)
    async with engine.open() as second:
        assert await settled(second, w) == "running"
        async with second.using(w) as joined:
            command = await joined.runner.start(ExecRequest(("true",), timeout_seconds=60))
        assert [info.exec_id for info in second.execs(w)] == [command.exec_id]
    assert written.with_name("history.db.corrupt-1").read_bytes() == b"rubbish" * 1000
    assert "kept as history.db.corrupt-1" in caplog.text


async def test_commands_of_workspaces_that_are_gone_are_forgotten(engine: Engine) -> None:
    async with engine.open() as first:
        w, other = [(await first.create(DEBIAN, nobody)).workspace_id for _ in range(2)]
        for each in (w, other):
            async with first.using(each) as joined:
                await joined.runner.start(ExecRequest(("true",), timeout_seconds=60))
        await first.delete(other)
        await first.prune(PruneWorkspaces(workspace=other))
        assert set(first._core.history.counts()) == {w}
    written = history.History(engine.home)
    written.add_exec(ExecInfo("x-1", "w-gone", ("true",), "exited", "2026-01-01T00:00:00+00:00"))
    written.close()
    async with engine.open() as second:
        assert set(second._core.history.counts()) == {w}


async def test_a_state_of_a_newer_pyro_is_left_alone_and_told_of(engine: Engine) -> None:
    await made_by_another(engine)
    change(engine, "PRAGMA user_version = 99")
    async with engine.open() as second:
        with pytest.raises(HostUnfit) as caught:
            second.info("x")
        assert caught.value.code == "state_newer"


@pytest.mark.parametrize("what", ["history", "order"])
async def test_where_not_all_can_be_used_nothing_stays_open(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    async with engine.open():
        pass  # its files are made
    if what == "history":
        change(engine, "PRAGMA user_version = 99", file=history.FILE_NAME)
    else:
        unfit = HostUnfit("state_newer", "somebody has replaced it meanwhile")
        monkeypatch.setattr(adopt, "put_in_order", AsyncMock(side_effect=unfit))
    workspaces = engine.workspaces()
    with none_left():
        await workspaces.open()
    with pytest.raises(HostUnfit, match=r"newer|meanwhile"):
        workspaces.info("x")
    await workspaces.close()


async def test_two_machines_never_have_one_disk(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if a record has lost its machine, the disk tells."""
    w = await made_by_another(engine)
    change(engine, "UPDATE workspaces SET state = 'stopped', vmm_pid = NULL")
    monkeypatch.setattr(kept, "_DISK_SECONDS", 0.1)
    async with engine.open() as second:
        with pytest.raises(Exception, match="another machine still has") as caught:
            await second.start(w)
        assert getattr(caught.value, "code", None) == "disk_in_use"
        assert second.info(w).state == "stopped"
        engine.boots.guests[0].die()
        assert (await second.start(w)).state == "running"
