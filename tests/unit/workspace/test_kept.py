"""Machines that outlive who started them, started by the real drivers with something else in their VMMs' places."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pyro_mcp.errors import GuestFailed, HostUnfit
from pyro_mcp.guest import client
from pyro_mcp.process import Detached
from pyro_mcp.process_watch import Watched
from pyro_mcp.vmm.channel import to_agent
from pyro_mcp.vmm.firecracker import FirecrackerDriver
from pyro_mcp.vmm.machine import Driver
from pyro_mcp.vmm.qemu import PROGRAM, QemuDriver
from pyro_mcp.workspace import kept
from pyro_mcp.workspace.kept import KeptMachine
from pyro_mcp.workspace.places import Places
from pyro_mcp.workspace.record import WorkspaceRecord
from tests.support.descriptors import none_left
from tests.support.fake_commands import FakeGuest, listening
from tests.support.fake_firecracker import BOOTS, fake_firecracker
from tests.support.fake_kept import kill, runs
from tests.support.fake_machine import Boots, fake_host

RECORD = WorkspaceRecord("w-1", "debian:12", "digest", 1, 512, "off", "2026-01-01", "firecracker", "disk-1.ext4")


@pytest.fixture
def places(tmp_path: Path) -> Places:
    made = Places(tmp_path / "home")
    made.home.mkdir()
    made.make(RECORD.workspace_id)
    made.disk(RECORD).touch(mode=0o600)
    os.truncate(made.disk(RECORD), 1 << 20)
    return made


@pytest.fixture
def tried() -> Iterator[list[Detached]]:
    """The VMMs that were tried."""
    seen: list[Detached] = []
    yield seen
    for process in seen:
        kill(process)


Start = Callable[[Driver], Awaitable[KeptMachine]]


@pytest.fixture
async def start(tmp_path: Path, places: Places, tried: list[Detached]) -> AsyncIterator[Start]:
    """Starts the machine of the only workspace."""

    async def started(driver: Driver) -> KeptMachine:
        host = replace(fake_host(tmp_path, Boots()), driver=driver)
        return await kept.start(host, tmp_path / "image", RECORD, places, tried.append)

    with none_left():
        yield started
        await asyncio.sleep(0)


def _firecracker(tmp_path: Path, script: str) -> FirecrackerDriver:
    return FirecrackerDriver(fake_firecracker(tmp_path, script), tmp_path / "run", confined=False)


@pytest.fixture
def dying(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """A driver whose VMM ends as soon as it has begun."""
    if request.param == "firecracker":
        return _firecracker(tmp_path, "sys.exit('no such device')")
    program = tmp_path / PROGRAM
    program.write_text("#!/bin/sh\nsleep 0.1; echo no such device >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return QemuDriver(confined=False)


@pytest.mark.parametrize("dying", ["firecracker", "qemu"], indirect=True)
async def test_a_vmm_that_dies_at_once_is_told_at_once_with_its_last_words(
    start: Start, dying: Driver, tried: list[Detached], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No time is spent on waiting for a guest that will never say a word."""
    monkeypatch.setattr(client, "_HELLO_SECONDS", 1000.0)
    async with asyncio.timeout(15):
        with pytest.raises(GuestFailed) as caught:
            await start(dying)
    assert caught.value.code == "guest_gone"
    assert "no such device" in caught.value.message
    assert len(tried) == 2, "it is tried once more"
    assert not any(runs(process) for process in tried)


async def test_a_guest_under_firecracker_is_left_and_found_again(
    start: Start, places: Places, tmp_path: Path, tried: list[Detached]
) -> None:
    agent = tmp_path / "agent.sock"
    driver = _firecracker(tmp_path, f"print('it boots'); knock(); relay({str(agent)!r})")
    folder = places.vmm_folder(RECORD.workspace_id)
    async with asyncio.timeout(60), listening(agent, FakeGuest(tmp_path)):
        machine = await start(driver)
        await machine.guest.ping()
        assert "it boots" in machine.console()
        assert not machine.is_gone
        assert folder.stat().st_mode & 0o777 == 0o700
        await machine.leave()
        for _ in range(2):
            found = await kept.find_again(tried[0], to_agent("firecracker", folder))
            assert found is not None
            await found.guest.ping()
            await found.leave()
        found = await kept.find_again(tried[0], to_agent("firecracker", folder))
        assert found is not None
        await found.end(orderly=False)
    assert len(tried) == 1
    assert not runs(tried[0])
    assert await kept.find_again(tried[0], to_agent("firecracker", folder)) is None


async def test_an_agent_that_is_not_there_yet_is_tried_again(start: Start, tmp_path: Path) -> None:
    """As one that has ended and begins again: Firecracker hangs up on whoever wants it meanwhile."""
    agent = tmp_path / "agent.sock"
    hang_up = "[listener.accept()[0].close() for _ in range(3)]"
    driver = _firecracker(tmp_path, f"knock(); {hang_up}; relay({str(agent)!r})")
    async with asyncio.timeout(60), listening(agent, FakeGuest(tmp_path)):
        machine = await start(driver)
        await machine.guest.ping()
        await machine.end(orderly=False)


async def test_a_guest_that_dies_while_it_is_found_again_is_gone(
    start: Start, places: Places, tmp_path: Path, tried: list[Detached]
) -> None:
    agent = tmp_path / "agent.sock"
    driver = _firecracker(tmp_path, f"print('it boots'); knock(); relay({str(agent)!r})")
    async with asyncio.timeout(60):
        async with listening(agent, FakeGuest(tmp_path)):
            machine = await start(driver)
            await machine.leave()
        open_channel = to_agent("firecracker", places.vmm_folder(RECORD.workspace_id))

        async def open_and_die() -> object:
            kill(tried[0])
            watched = Watched.find(tried[0])
            if watched is not None:
                await watched.wait()
                watched.close()
            return await open_channel()

        with pytest.raises(GuestFailed) as caught:
            await kept.find_again(tried[0], open_and_die)  # type: ignore[arg-type]
    assert caught.value.code == "guest_gone"


async def test_a_start_that_is_cancelled_leaves_no_vmm(start: Start, tmp_path: Path, tried: list[Detached]) -> None:
    up = tmp_path / "up"
    starting = asyncio.ensure_future(start(_firecracker(tmp_path, f"open({str(up)!r}, 'w'); time.sleep(1000)")))
    async with asyncio.timeout(30):
        while not up.exists():  # noqa: ASYNC110  (another process makes it)
            await asyncio.sleep(0.005)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    assert len(tried) == 1
    assert not runs(tried[0])


async def test_a_folder_that_cannot_be_made_is_told(start: Start, places: Places, tmp_path: Path) -> None:
    places.vmm_folder(RECORD.workspace_id).write_text("in the way")
    with pytest.raises(HostUnfit) as caught:
        await start(_firecracker(tmp_path, BOOTS))
    assert caught.value.code == "home_unusable"


async def test_a_vmm_that_cannot_be_started_is_told(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyro_mcp.vmm.confine.BWRAP", "/no/such/bwrap")
    monkeypatch.setattr("pyro_mcp.vmm.firecracker_sandbox.access_for", lambda *_: None)
    with pytest.raises(HostUnfit) as caught:
        await start(replace(_firecracker(tmp_path, BOOTS), confined=True))
    assert caught.value.code == "vmm_failed"
