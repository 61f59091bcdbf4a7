"""What a guest used and needs no more goes back to the host, whether its machine booted or was restored."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pyro_mcp import tasks
from pyro_mcp.guest import client, identity
from pyro_mcp.guest.client import GuestClient
from pyro_mcp.process import Detached
from pyro_mcp.runtime.bundle import RuntimeBundle
from pyro_mcp.vmm import balloon, channel, proportional
from pyro_mcp.vmm.firecracker import FirecrackerDriver
from pyro_mcp.vmm.machine import MachineSpec, OpenChannel
from pyro_mcp.vmm.template import Template
from pyro_mcp.workspace.give_back import give_back
from tests.kvmhost.machines import machine
from tests.kvmhost.test_snapshot import end, said

_SECONDS = 60.0
# Bytes of memory that is free again afterwards: much more than the guest's own work takes of it anew meanwhile.
_WRITTEN = 96 << 20
_USE = f"head -c {_WRITTEN} /dev/zero >/dev/shm/much && rm /dev/shm/much"
_SLACK_KIB = 16 << 10  # that the guest may take for itself meanwhile
_FREE = "awk '/^MemFree/ {print $2}' /proc/meminfo"


@pytest.mark.parametrize("copies", [True, False], ids=["restored", "booted"])
async def test_what_a_guest_does_not_need_goes_back(bundle: RuntimeBundle, tmp_path: Path, copies: bool) -> None:
    driver = FirecrackerDriver(bundle.firecracker, tmp_path)
    folder = tmp_path / "machine"
    async with machine(bundle) as plain:
        spec = await with_template(driver, plain, tmp_path / "template") if copies else plain
        async with running(driver, spec, folder) as (process, guest):
            its_balloon = balloon.of(folder)
            assert its_balloon is not None
            new = taken(process)
            await said(guest, _USE)
            used = taken(process)
            free = int(await said(guest, _FREE))
            assert used > new + _WRITTEN * 3 // 4
            giving = asyncio.create_task(give_back(guest, its_balloon, spec.mem_mib))
            await until(lambda: giving.done() or taken(process) < used - _WRITTEN * 3 // 4)
            await tasks.end(giving)  # which gives the guest its memory again, in a moment
            async with asyncio.timeout(_SECONDS):
                while int(await said(guest, _FREE)) < free - _SLACK_KIB:  # noqa: ASYNC110
                    await asyncio.sleep(1)
            assert taken(process) < used - _WRITTEN // 2


async def until(condition: Callable[[], bool]) -> None:
    """Look once a second: to look is work here, too."""
    async with asyncio.timeout(_SECONDS):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(1)


async def with_template(driver: FirecrackerDriver, spec: MachineSpec, folder: Path) -> MachineSpec:
    async def until_ready(open_channel: OpenChannel) -> None:
        await client.meet(open_channel, timeout_seconds=_SECONDS)

    os.mkdir(folder)
    await driver.make_template(spec, folder, until_ready)
    return replace(spec, template=Template(folder))


@asynccontextmanager
async def running(
    driver: FirecrackerDriver, spec: MachineSpec, folder: Path
) -> AsyncIterator[tuple[Detached, GuestClient]]:
    os.mkdir(folder, mode=0o700)
    log, started = channel.BoundedLog(), list[Detached]()
    its_identity = identity.of_workspace("w-test", seed=False)
    try:
        with channel.listening(folder / driver.listens_at) as listener:
            await asyncio.to_thread(driver.start_kept, spec, folder, listener, log.fd, started.append)
            opening = driver.channel(spec, folder, listener)
            async with client.reconnect(opening, timeout_seconds=_SECONDS, identity=its_identity) as guest:
                yield started[0], guest
    finally:
        await end(started)
        log.close()


def taken(process: Detached) -> int:
    told = proportional.bytes_of(process)
    assert told is not None
    return told
