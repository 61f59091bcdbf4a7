"""How quickly machines begin as a template's copy, measured in this process, without daemon and command line."""

import asyncio
import contextlib
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

from pyro_mcp.errors import GuestFailed
from pyro_mcp.guest import client, identity
from pyro_mcp.guest.client import GuestClient
from pyro_mcp.guest.messages import Exec, Exited
from pyro_mcp.images import disk
from pyro_mcp.vmm import qemu_command, tsc
from pyro_mcp.vmm.machine import MachineSpec, OpenChannel
from pyro_mcp.vmm.qemu import QemuDriver
from pyro_mcp.vmm.qemu_command import Wiring
from pyro_mcp.workspace.boot import boot_guest, machine_spec
from pyro_mcp.workspace.engine import Workspaces
from pyro_mcp.workspace.host import Host
from pyro_mcp.workspace.template_stages import PREPARED, WAITING, Stage
from pyro_mcp.workspace_models import CreateWorkspace, PruneWorkspaces
from tests.bench.bare import BareMachine
from tests.bench.report import Ratio

_ROUNDS = 9
_MEM_MIB = 1024
_READY_SECONDS = 60.0
_REOPEN_SECONDS = 0.01


async def against_bare_restore(host: Host, bare: BareMachine, folder: Path) -> list[Ratio]:
    """Machines of `host`, which has templates and QEMU, against QEMU alone that restores the same template.

    Both are asked for the same over the same channel, so that the guest's part of the work is in both: what is compared
    is all that pyro puts around QEMU. The last row shows that part: its yardstick is the restored guest's first answer.
    """
    image = bare.spec.image
    rounds = []
    async with _workspaces(host, folder) as workspaces:
        for _ in range(_ROUNDS + 1):
            rounds.append(
                (
                    await _seconds_of_command(host, image),
                    await _bare_seconds(host, bare, PREPARED, _run_as_throwaway),
                    await _seconds_of_create(workspaces),
                    await _bare_seconds(host, bare, WAITING, _become_workspace),
                    await _bare_seconds(host, bare, PREPARED, _answer),
                )
            )
    # The first round makes what there is to make.
    command, bare_command, create, bare_create, answer = zip(*rounds[1:], strict=True)
    return [
        Ratio("restore to end of first command / bare restore", command, bare_command, 1.5),
        Ratio("create of an empty workspace / bare restore", create, bare_create, 1.5),
        Ratio("restore to end of first command / bare answer", command, answer, None),
    ]


async def seconds_to_answer(host: Host, spec: MachineSpec) -> float:
    """From asking the driver for a machine to its agent's first answer."""
    began = time.perf_counter()
    async with host.driver.boot(spec) as machine, asyncio.timeout(_READY_SECONDS):
        while True:
            try:
                await client.meet(machine.open_channel, timeout_seconds=_READY_SECONDS)
                return time.perf_counter() - began
            except GuestFailed:
                # A restored guest may first have to hear that the host of its template is gone.
                if not machine.reopens:
                    raise
                await asyncio.sleep(_REOPEN_SECONDS)


@contextlib.asynccontextmanager
async def copied_spec(host: Host, image: Path, stage: Stage) -> AsyncIterator[MachineSpec]:
    """A machine with a new disk that begins as a template's copy; the template is made if need be."""
    assert host.templates is not None
    plain = machine_spec(host, image, -1, vcpu_count=1, mem_mib=_MEM_MIB)
    copied = await host.templates.begin_from(host, plain, stage)
    assert copied.template is not None
    if stage.with_disk:
        source = os.open(copied.template.disk, os.O_RDONLY)
    else:
        source = await disk.open_blank(host.images.cache_dir, stage.disk_mib << 20, journal=stage.journal)
    try:
        copy = await disk.clone(source, host.images.cache_dir / "disks")
    finally:
        os.close(source)
    try:
        yield replace(copied, disk_fd=copy)
    finally:
        os.close(copy)


async def _seconds_of_command(host: Host, image: Path) -> float:
    began = time.perf_counter()
    async with boot_guest(host, image, vcpu_count=1, mem_mib=_MEM_MIB) as guest:
        await _run_true(guest.client)
        return time.perf_counter() - began


async def _run_true(guest: GuestClient) -> None:
    async with guest.exec(Exec(argv=("true",))) as command:
        *_, end = [event async for event in command.events()]
        assert isinstance(end, Exited)
        assert end.exit_code == 0


@contextlib.asynccontextmanager
async def _workspaces(host: Host, folder: Path) -> AsyncIterator[Workspaces]:
    async def find_host(*, quiet: bool = False) -> Host:
        return host

    workspaces = Workspaces(folder / "beginnings", host.images, find_host)
    await workspaces.open()
    try:
        yield workspaces
    finally:
        await workspaces.close()


async def _seconds_of_create(workspaces: Workspaces) -> float:
    async def report(_progress: object) -> None:
        """Nobody looks."""

    began = time.perf_counter()
    info = await workspaces.create(CreateWorkspace("debian:12"), report)
    seconds = time.perf_counter() - began
    await workspaces.delete(info.workspace_id)
    await workspaces.prune(PruneWorkspaces(info.workspace_id))
    return seconds


async def _bare_seconds(
    host: Host, bare: BareMachine, stage: Stage, use: Callable[[OpenChannel], Awaitable[None]]
) -> float:
    """From the start of QEMU alone, without sandbox, gate and control group, until `use` has had what it wants."""
    ours, theirs = socket.socketpair()

    async def opened() -> socket.socket:
        return ours

    async with copied_spec(host, bare.spec.image, stage) as spec:
        began = time.perf_counter()
        with ours, theirs, _restoring(bare, spec, theirs):
            await use(opened)
            return time.perf_counter() - began


@contextlib.contextmanager
def _restoring(bare: BareMachine, spec: MachineSpec, its_channel: socket.socket) -> Iterator[None]:
    with QemuDriver()._wired(spec, Wiring(its_channel.fileno())) as wiring:
        argv = qemu_command.command_line(bare.program, spec, wiring, tsc_khz=tsc.host_khz(), console=False)
        process = subprocess.Popen(argv, pass_fds=(spec.disk_fd, *wiring.fds()), stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def _run_as_throwaway(opened: OpenChannel) -> None:
    async with client.connect(opened, timeout_seconds=_READY_SECONDS, identity=identity.of_throwaway()) as guest:
        await _run_true(guest)


async def _become_workspace(opened: OpenChannel) -> None:
    whose = identity.of_workspace("w-0", seed=False)
    async with client.connect(opened, timeout_seconds=_READY_SECONDS, identity=whose):
        pass


async def _answer(opened: OpenChannel) -> None:
    await client.meet(opened, timeout_seconds=_READY_SECONDS)
