"""Workspaces from their making to their end; the guests are fake, everything else is real."""

import asyncio
import os
from dataclasses import replace
from unittest.mock import AsyncMock

import pytest

from pyro_mcp.errors import Conflict, GuestFailed, HostUnfit, InvalidRequest, NotFound
from pyro_mcp.images import no_seed
from pyro_mcp.models import Progress
from pyro_mcp.process import wait_for_end
from pyro_mcp.workspace import boot
from pyro_mcp.workspace.engine import Workspaces
from pyro_mcp.workspace_models import CreateWorkspace, ExecRequest
from tests.support.fake_kept import Engine
from tests.support.nobody import nobody
from tests.support.waiting import until
from tests.unit.workspace.notes import read, write

DEBIAN = CreateWorkspace("debian:12")


def files(engine: Engine) -> list[str]:
    """What is on disk of workspaces, but for their sockets."""
    folder = engine.home / "workspaces"
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(f"disk of {path.parent}" if path.parts[-1] == "disk-1.ext4" else str(path) for path in found)


async def test_a_workspace_runs_when_it_has_been_made(engine: Engine, workspaces: Workspaces) -> None:
    steps: list[str] = []

    async def report(progress: Progress) -> None:
        steps.append(progress.phase)

    request = CreateWorkspace("debian:12", vcpu_count=2, mem_mib=512, name="mine", labels={"for": "tests"})
    made = await workspaces.create(request, report)
    assert (made.state, made.name, made.labels, made.vmm) == ("running", "mine", {"for": "tests"}, "fake")
    assert made.workspace_id.startswith("w-")
    assert made.disk_bytes > 0
    assert made == workspaces.info("mine") == workspaces.info(made.workspace_id[:5])
    assert workspaces.list(deleted=False) == (made,)
    assert (workspaces.running, engine.boots.alive) == (1, 1)
    (spec,) = engine.boots.specs
    assert (spec.vcpu_count, spec.mem_mib, spec.durable, spec.template) == (2, 512, True, None)
    assert spec.seed == no_seed.path(engine.images.cache_dir)
    assert "boot" in steps
    folder = engine.home / "workspaces" / made.workspace_id
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "vmm").stat().st_mode & 0o777 == 0o700
    assert (folder / "vmm" / "agent.sock").stat().st_mode & 0o777 == 0o600


async def test_the_status_tells_what_a_machine_takes_of_the_host(workspaces: Workspaces) -> None:
    made = await workspaces.create(DEBIAN, nobody)
    told = await workspaces.status(made.workspace_id)
    assert told.host_memory_bytes is not None
    assert told.host_memory_bytes > 0
    assert replace(told, host_memory_bytes=made.host_memory_bytes) == made
    stopped = await workspaces.stop(made.workspace_id)
    assert await workspaces.status(made.workspace_id) == stopped


async def test_the_folder_of_a_vmm_is_there_as_long_as_that(
    engine: Engine, workspaces: Workspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = (await workspaces.create(DEBIAN, nobody)).workspace_id
    folder = engine.home / "workspaces" / w / "vmm"
    assert os.listdir(folder) == ["agent.sock"]
    await workspaces.stop(w)
    assert not folder.exists()
    await workspaces.start(w)
    (folder / "left").write_text("by the VMM")
    engine.boots.guests[-1].die()
    await until(lambda: workspaces.info(w).state == "stopped")
    assert not folder.exists()
    monkeypatch.setattr("pyro_mcp.workspace.boot._READY_SECONDS", 0.05)
    monkeypatch.setattr("pyro_mcp.workspace.boot._LAST_READY_SECONDS", 0.05)
    engine.boots.mute = 2
    with pytest.raises(GuestFailed):
        await workspaces.start(w)
    assert not folder.exists()
    folder.mkdir()
    (folder / "left").write_text("by a VMM that nobody saw end")
    await workspaces.start(w)
    assert os.listdir(folder) == ["agent.sock"]


async def test_what_is_to_be_said_of_the_vmm_is_said_when_a_workspace_is_made(engine: Engine) -> None:
    told: list[Progress] = []

    async def report(progress: Progress) -> None:
        told.append(progress)

    engine.notice = "this is the slow one"
    async with engine.open() as workspaces:
        await workspaces.create(DEBIAN, report)
    assert told.count(Progress("create", "notice", "", "this is the slow one")) == 1


async def test_a_mistake_is_told_before_anything_is_found_out(engine: Engine) -> None:
    """How machines run here, for one, which may take a proof of seconds."""
    find_host = AsyncMock()
    workspaces = Workspaces(engine.home, engine.images, find_host)
    await workspaces.open()
    with pytest.raises(NotFound) as caught:
        await workspaces.create(CreateWorkspace("debian-12"), nobody)
    assert caught.value.code == "unknown_environment"
    find_host.assert_not_awaited()
    await workspaces.close()


async def test_stopping_and_starting_keeps_what_is_there(engine: Engine, workspaces: Workspaces) -> None:
    made = await workspaces.create(DEBIAN, nobody)
    await write(workspaces, made.workspace_id, "kept")
    stopped = await workspaces.stop(made.workspace_id)
    assert (stopped.state, stopped.stopped_because) == ("stopped", "user")
    assert (workspaces.running, engine.boots.alive) == (0, 0)
    with pytest.raises(Conflict) as caught:
        await read(workspaces, made.workspace_id)
    start = f"`pyro workspace start {made.workspace_id}` starts it again"
    assert (caught.value.code, caught.value.hint) == ("workspace_stopped", start)
    assert (await workspaces.stop(made.workspace_id)).state == "stopped"
    started = await workspaces.start(made.workspace_id)
    assert (started.state, started.stopped_because) == ("running", None)
    assert await read(workspaces, made.workspace_id) == "kept"
    assert (await workspaces.start(made.workspace_id)).state == "running"
    assert engine.boots.alive == 1


async def test_what_cannot_be_made_leaves_nothing(engine: Engine, workspaces: Workspaces) -> None:
    await workspaces.create(CreateWorkspace("debian:12", name="taken"), nobody)
    before = files(engine)
    for request, code in (
        (CreateWorkspace("debian:12", name="taken"), "name_in_use"),
        (CreateWorkspace("debian:12", name="w-abcd"), "bad_name"),
        (CreateWorkspace("debian:12", name="no spaces"), "bad_name"),
        (CreateWorkspace("debian:12", vcpu_count=0), "out_of_range"),
        (CreateWorkspace("debian:12", mem_mib=64), "out_of_range"),
        (CreateWorkspace("debian:12", ttl_seconds=0), "out_of_range"),
        (CreateWorkspace("debian:12", network_policy="egress"), "network_unsupported"),
        (CreateWorkspace("debian:12", network_policy="all"), "bad_network_policy"),
        (CreateWorkspace("debian:12", labels={"a b": "c"}), "bad_label"),
        (CreateWorkspace("debian:12", labels={"a": "c" * 300}), "bad_label"),
        (CreateWorkspace("debian:13"), "unknown_environment"),
        (CreateWorkspace("debian:12", seed_path="relative"), "bad_seed_path"),
    ):
        with pytest.raises((Conflict, InvalidRequest, NotFound)) as caught:
            await workspaces.create(request, nobody)
        assert caught.value.code == code
        assert caught.value.hint
    with pytest.raises(NotFound):
        await workspaces.create(CreateWorkspace("debian:12", seed_path="/no/such/folder"), nobody)
    engine.boots.unfit = True
    with pytest.raises(HostUnfit):
        await workspaces.create(DEBIAN, nobody)
    assert files(engine) == before
    assert len(workspaces.list(deleted=False)) == 1
    assert engine.boots.alive == 1


@pytest.mark.parametrize("answers", ["never", "late"])
async def test_a_guest_that_does_not_answer_is_tried_once_more(
    engine: Engine, workspaces: Workspaces, monkeypatch: pytest.MonkeyPatch, answers: str
) -> None:
    monkeypatch.setattr(boot, "_READY_SECONDS", 0.2)
    monkeypatch.setattr(boot, "_LAST_READY_SECONDS", 0.2 if answers == "never" else 30)
    engine.boots.mute = 2 if answers == "never" else 1
    if answers == "late":
        assert (await workspaces.create(DEBIAN, nobody)).state == "running"
        assert engine.boots.alive == 1
        return
    with pytest.raises(GuestFailed) as caught:
        await workspaces.create(DEBIAN, nobody)
    assert "the guest\ufffd[2J speaks" in caught.value.message
    assert (engine.boots.alive, workspaces.list(deleted=False), files(engine)) == (0, (), [])


async def test_a_making_that_is_cancelled_leaves_nothing(engine: Engine, workspaces: Workspaces) -> None:
    engine.boots.mute = 1
    making = asyncio.create_task(workspaces.create(DEBIAN, nobody))
    await until(lambda: engine.boots.alive == 1)
    assert [info.state for info in workspaces.list(deleted=False)] == ["creating"]
    making.cancel()
    await asyncio.wait((making,))
    assert making.cancelled()
    assert (engine.boots.alive, workspaces.list(deleted=False), files(engine)) == (0, (), [])
    assert list((engine.images.cache_dir / "uses").iterdir()) == []


async def test_a_machine_that_dies_is_seen_and_booted_again_when_it_is_wanted(
    engine: Engine, workspaces: Workspaces
) -> None:
    w = (await workspaces.create(DEBIAN, nobody)).workspace_id
    await write(workspaces, w, "kept")
    async with workspaces.using(w) as live:
        command = await live.runner.start(ExecRequest(("sleep", "1000"), timeout_seconds=60))
    assert workspaces.info(w).running_commands == 1
    engine.boots.guests[-1].die()
    await until(lambda: workspaces.info(w).state == "stopped")
    assert workspaces.info(w).stopped_because == "machine-died"
    await until(lambda: workspaces.exec(w, command.exec_id).status == "lost")
    assert workspaces.runner_if_live(w) is None
    assert await read(workspaces, w) == "kept"
    assert workspaces.info(w).state == "running"
    assert engine.boots.alive == 1


async def test_a_machine_that_has_just_died_is_not_handed_out(engine: Engine, workspaces: Workspaces) -> None:
    """Not even before its watch has had its turn."""
    w = (await workspaces.create(DEBIAN, nobody)).workspace_id
    await write(workspaces, w, "kept")
    dead = engine.boots.guests[-1]
    dead.die()
    assert wait_for_end(dead.process.pid, 30)
    assert await read(workspaces, w) == "kept"
    assert (len(engine.boots.guests), engine.boots.alive) == (2, 1)
    await asyncio.sleep(0)
    assert workspaces.info(w).state == "running"


async def test_a_guest_that_will_not_switch_off_is_killed(
    engine: Engine, workspaces: Workspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyro_mcp.workspace.kept._ORDERLY_SECONDS", 0.1)
    w = (await workspaces.create(DEBIAN, nobody)).workspace_id
    engine.boots.guests[-1].stubborn = True
    assert (await workspaces.stop(w)).state == "stopped"
    assert engine.boots.alive == 0


async def test_a_time_limit_stops_a_workspace_and_starting_it_sets_it_anew(
    engine: Engine, workspaces: Workspaces
) -> None:
    made = await workspaces.create(CreateWorkspace("debian:12", ttl_seconds=1), nobody)
    assert made.expires_at is not None
    await until(lambda: workspaces.info(made.workspace_id).state == "stopped")
    info = workspaces.info(made.workspace_id)
    assert (info.stopped_because, info.expires_at) == ("expired", None)
    await until(lambda: engine.boots.alive == 0)
    started = await workspaces.start(made.workspace_id)
    assert started.expires_at is not None
    assert started.expires_at > made.expires_at


async def test_last_words_are_logged_without_what_they_would_do_to_a_terminal(
    engine: Engine, workspaces: Workspaces, caplog: pytest.LogCaptureFixture
) -> None:
    w = (await workspaces.create(DEBIAN, nobody)).workspace_id
    engine.boots.guests[-1].die()
    await until(lambda: workspaces.info(w).state == "stopped")
    assert "last words: the guest\ufffd[2J speaks" in caplog.text


async def test_changes_wait_for_who_uses_a_workspace(workspaces: Workspaces) -> None:
    w = (await workspaces.create(DEBIAN, nobody)).workspace_id
    async with workspaces.using(w):
        stopping = asyncio.create_task(workspaces.stop(w))
        done, _ = await asyncio.wait((stopping,), timeout=0.05)
        assert not done
        assert workspaces.info(w).state == "running"
    assert (await stopping).state == "stopped"


async def test_many_at_once_on_a_workspace_that_has_to_be_booted(engine: Engine, workspaces: Workspaces) -> None:
    w = (await workspaces.create(DEBIAN, nobody)).workspace_id
    engine.boots.guests[-1].die()
    await until(lambda: workspaces.info(w).state == "stopped")
    assert await asyncio.gather(*(read(workspaces, w) for _ in range(10))) == [None] * 10
    assert len(engine.boots.guests) == 2


async def test_many_workspaces_at_once(engine: Engine, workspaces: Workspaces) -> None:
    async def one(number: int) -> None:
        w = (await workspaces.create(CreateWorkspace("debian:12", name=f"n{number}"), nobody)).workspace_id
        await write(workspaces, w, f"text {number}")
        await workspaces.stop(w)
        await workspaces.start(w)
        assert await read(workspaces, f"n{number}") == f"text {number}"
        await workspaces.delete(w)

    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(one(number))
    assert (engine.boots.alive, workspaces.running, len(workspaces.list(deleted=True))) == (0, 0, 8)
