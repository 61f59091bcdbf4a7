"""Pausing a machine, writing it down, and letting it go on as another."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pyro_mcp.errors import GuestFailed
from pyro_mcp.guest import identity
from pyro_mcp.guest.client import GuestClient, reconnect
from pyro_mcp.guest.frames import Output
from pyro_mcp.guest.messages import Exec
from pyro_mcp.process import Detached
from pyro_mcp.process_watch import Watched
from pyro_mcp.runtime.bundle import RuntimeBundle
from pyro_mcp.vmm import channel
from pyro_mcp.vmm.firecracker import FirecrackerDriver
from pyro_mcp.vmm.firecracker_api import PAUSED, RUNNING, FirecrackerApi
from pyro_mcp.vmm.machine import MachineSpec
from pyro_mcp.vmm.template import Template
from tests.kvmhost.machines import ROOT_AND_USER, machine

_SECONDS = 120.0


@ROOT_AND_USER
async def test_a_machine_goes_on_from_its_snapshot(bundle: RuntimeBundle, tmp_path: Path, who: str) -> None:
    driver = FirecrackerDriver(bundle.firecracker, tmp_path)
    one, two = (tmp_path / name for name in ("one", "two"))
    async with machine(bundle) as spec:
        async with booted(driver, spec, one) as guest:
            # In memory alone, and the process that holds it goes on, too.
            await said(guest, "echo kept >/dev/shm/word; (sleep 1000 & echo $! >/dev/shm/sleeper)")
            boot_id = await said(guest, "cat /proc/sys/kernel/random/boot_id")
            await driver.pause(one)
            assert (await FirecrackerApi(one).info()).state == PAUSED
            snapshot = moved(await driver.snapshot(one), tmp_path)
            await driver.resume(one)
            assert (await FirecrackerApi(one).info()).state == RUNNING
            # Taking a snapshot ends connections; Firecracker's documentation says so.
            async with reconnect(channel.to_agent(driver.name, one), timeout_seconds=_SECONDS) as again:
                assert await said(again, "cat /dev/shm/word") == b"kept\n"
            await driver.pause(one)
        async with restored(driver, spec, two, snapshot) as guest:
            assert (await said(guest, "cat /proc/sys/kernel/random/boot_id")) == boot_id
            both = await said(guest, "cat /dev/shm/word; kill -0 $(cat /dev/shm/sleeper) && echo alive")
            assert both == b"kept\nalive\n"


async def test_what_the_vmm_refuses_is_told_in_its_words(bundle: RuntimeBundle, tmp_path: Path) -> None:
    driver = FirecrackerDriver(bundle.firecracker, tmp_path)
    async with machine(bundle) as spec, booted(driver, spec, tmp_path / "one"):
        with pytest.raises(GuestFailed, match="refuses PUT /snapshot/create") as caught:
            await driver.snapshot(tmp_path / "one")  # it is not paused
    assert caught.value.code == "vmm_refused"


@asynccontextmanager
async def booted(driver: FirecrackerDriver, spec: MachineSpec, folder: Path) -> AsyncIterator[GuestClient]:
    os.mkdir(folder, mode=0o700)
    log, started = channel.BoundedLog(), list[Detached]()
    try:
        with channel.listening(folder / driver.listens_at) as listener:
            await asyncio.to_thread(driver.start_kept, spec, folder, listener, log.fd, started.append)
            opening = driver.channel(spec, folder, listener)
            async with reconnect(opening, timeout_seconds=_SECONDS, identity=identity.of_throwaway()) as guest:
                yield guest
    except GuestFailed as error:
        if error.code == "vmm_refused":
            raise
        raise AssertionError(log.text()) from error
    finally:
        await end(started)
        log.close()


@asynccontextmanager
async def restored(
    driver: FirecrackerDriver, spec: MachineSpec, folder: Path, snapshot: Template
) -> AsyncIterator[GuestClient]:
    os.mkdir(folder, mode=0o700)
    log, started = channel.BoundedLog(), list[Detached]()
    try:
        await asyncio.to_thread(driver.start_restored, spec, folder, snapshot, log.fd, started.append)
        await driver.restore(folder, snapshot)
        async with reconnect(channel.to_agent(driver.name, folder), timeout_seconds=_SECONDS) as guest:
            yield guest
    finally:
        await end(started)
        log.close()


async def end(started: list[Detached]) -> None:
    for process in started:
        vmm = Watched.find(process)
        if vmm is not None:
            vmm.kill()
            await vmm.wait()
            vmm.close()


async def said(guest: GuestClient, script: str) -> bytes:
    """What a shell prints in the guest."""
    async with guest.exec(Exec(argv=("sh", "-c", script), timeout_ms=60_000)) as command:
        return b"".join([event.data async for event in command.events() if isinstance(event, Output)])


def moved(snapshot: Template, folder: Path) -> Template:
    """Where other users may read it."""
    kept = Template(folder)
    for old, new in ((snapshot.state, kept.state), (snapshot.memory, kept.memory)):
        shutil.move(old, new)
        new.chmod(0o644)
    return kept
