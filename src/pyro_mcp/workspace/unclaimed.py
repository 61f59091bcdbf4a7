"""A machine that waits to become a workspace's: begun from a template in a workspace's own folder, its disk mounted.

Its id is the id that the workspace will have, so nothing is renamed when it is claimed. Until then no record names it:
it ends with the daemon (see `leash`), and its folder is known by a file in it. That file is what its VMM has open as
the seed. It is larger than any seed, as all that templates know, and takes no space; a seed's image is copied into it
before the guest is told to begin, and where there is no seed it just loses its name. Another file names the VMM, for
the next daemon to end where the leash was killed along with this one.
"""

import asyncio
import contextlib
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from pyro_mcp import sparse, tasks
from pyro_mcp.errors import GuestFailed, HostUnfit
from pyro_mcp.guest.identity import of_workspace
from pyro_mcp.images import no_seed, store
from pyro_mcp.images.store import Store, sync_folder
from pyro_mcp.models import ReadyMachine, RunRequest
from pyro_mcp.process import Detached
from pyro_mcp.to_the_end import to_the_end
from pyro_mcp.vmm import cgroup, proportional
from pyro_mcp.vmm.machine import MachineSpec
from pyro_mcp.vmm.template import Template
from pyro_mcp.workspace import boot, kept
from pyro_mcp.workspace.blank import blank_disk
from pyro_mcp.workspace.host import Host
from pyro_mcp.workspace.kept import KeptMachine, WaitingMachine
from pyro_mcp.workspace.leash import Leash
from pyro_mcp.workspace.places import FIRST_DISK, Places
from pyro_mcp.workspace.record import WorkspaceRecord
from pyro_mcp.workspace.templates import Templates

USUAL = RunRequest("", ())  # of the machine that everybody gets who asks for no other


@dataclass(frozen=True)
class Shape:
    """What a workspace has to be like to take such a machine; `digest` is that of its image."""

    environment: str
    digest: str
    vmm: str
    vcpu_count: int = USUAL.vcpu_count
    mem_mib: int = USUAL.mem_mib


@dataclass(eq=False)
class Unclaimed:
    """One of them. It is `end`ed by whoever has it, also when a workspace has taken it over."""

    workspace_id: str
    shape: Shape
    machine: WaitingMachine
    _places: Places
    _leash: Leash
    _seed: int  # the file that its VMM takes for the seed
    _claimed: bool = False
    _begun: bool = False
    _ended: bool = False

    @property
    def is_alive(self) -> bool:
        """Whether it can still be claimed. One that would not end with the daemon any more cannot."""
        return not self._claimed and not self._ended and self.machine.vmm.alive and self._leash.holds

    async def gone(self) -> None:
        """Wait until its VMM has ended, or would not end with the daemon any more."""
        await tasks.first_of(self.machine.vmm.wait(), self._leash.lost())

    def fits(self, record: WorkspaceRecord) -> bool:
        """Whether it can be that workspace's machine."""
        shape = Shape(record.environment, record.digest, record.vmm, record.vcpu_count, record.mem_mib)
        return self.is_alive and self.shape == shape

    async def describe(self) -> ReadyMachine:
        """What it is, and what it takes of the host's memory."""
        shape, taken = self.shape, await asyncio.to_thread(proportional.bytes_of, self.machine.process)
        return ReadyMachine(shape.environment, shape.vmm, shape.vcpu_count, shape.mem_mib, taken)

    def claim(self) -> None:
        """It is its workspace's from now on, whose record names its VMM. That outlives the daemon when this is `end`ed:
        until then its workspace is only being made."""
        self._claimed = True
        with contextlib.suppress(OSError):  # it is removed at the daemon's next start
            self._places.unclaimed_vmm(self.workspace_id).unlink(missing_ok=True)

    def take_seed(self, image: Path | None) -> None:
        """Let its guest have that seed, or none: before it is told to begin. Blocks.

        The file at `image` is another one afterwards, with the same content. Raises `OSError`.
        """
        placeholder = self._places.no_seed_yet(self.workspace_id)
        if image is None:
            placeholder.unlink(missing_ok=True)
            sync_folder(placeholder.parent)  # it must not mark a workspace's folder again after the host has crashed
            return
        with image.open("rb", buffering=0) as source:
            sparse.copy(source.fileno(), self._seed)
        os.fsync(self._seed)
        placeholder.rename(image)
        sync_folder(image.parent)

    async def begin(self, *, seed: bool) -> KeptMachine:
        """Have its guest begin as the workspace's, which has a seed or not. Raises `GuestFailed`."""
        machine = await self.machine.become(of_workspace(self.workspace_id, seed=seed))
        self._begun = True
        return machine

    async def end(self) -> None:
        """Let go of it; if nobody has claimed it, nothing of it is left."""
        if self._ended:
            return
        self._ended = True
        try:
            if not self._begun:
                await self.machine.end()
        finally:
            await self._leash.let_go()
            os.close(self._seed)
            if not self._claimed:
                await asyncio.to_thread(remove, self._places, self.workspace_id)


async def start(images: Store, places: Places, host: Host, workspace_id: str, environment: str) -> Unclaimed:
    """Begin one with an id that is free, after all machines whose start somebody waits for already.

    Raises `HostUnfit`, `NotFound`, `SourceFailed` or `GuestFailed`, and `OSError`; nothing is left of it then, nor if
    this is cancelled. A template that it cannot begin from is thrown away.
    """
    if host.templates is None:
        raise HostUnfit("no_template", "there are no templates to begin machines from", "set PYRO_TEMPLATES to on")
    async with AsyncExitStack() as undo:
        await to_the_end(_folder(undo, places, workspace_id))
        seed = no_seed.placeholder(places.no_seed_yet(workspace_id))
        undo.callback(os.close, seed)
        folder = places.folder(workspace_id)
        await blank_disk(images, folder / FIRST_DISK)
        with contextlib.ExitStack() as opened:
            disk = await kept.open_disk(folder / FIRST_DISK)
            opened.callback(os.close, disk)
            image = opened.enter_context(await store.open_verified(images, environment))
            copy, template = await _copy(host, host.templates, image.path, disk, places.no_seed_yet(workspace_id))
            leashes: list[Leash] = []
            undo.push_async_callback(_let_go, leashes)
            try:
                machine = await _begun(host, copy, places, workspace_id, leashes)
            except GuestFailed as error:
                await host.templates.discard(template, error.message)
                raise
        undo.pop_all()
        shape = Shape(environment, image.digest, host.driver.name)
        return Unclaimed(workspace_id, shape, machine, places, leashes[0], seed)


async def end_left(places: Places, workspace_id: str) -> None:
    """End one that another daemon left, if it still runs, and remove it. Raises `HostUnfit`, and `OSError`."""
    left = await asyncio.to_thread(store.read_json, places.unclaimed_vmm(workspace_id), Detached)
    if left is not None:
        await kept.kill(left)
    await asyncio.to_thread(remove, places, workspace_id)


def remove(places: Places, workspace_id: str) -> None:
    """Remove what one that has ended left. Blocks. Raises `HostUnfit`."""
    places.remove(workspace_id)
    cgroup.remove(cgroup.name_for(places.vmm_folder(workspace_id)))


async def _folder(undo: AsyncExitStack, places: Places, workspace_id: str) -> None:
    """Make its folder, which is removed again only if it is ours."""
    await asyncio.to_thread(places.make, workspace_id)
    undo.push_async_callback(_removed, places, workspace_id)


async def _copy(host: Host, templates: Templates, image: Path, disk: int, seed: Path) -> tuple[MachineSpec, Template]:
    """The machine as a template's copy."""
    plain = boot.machine_spec(host, image, disk, vcpu_count=USUAL.vcpu_count, mem_mib=USUAL.mem_mib)
    copy = await templates.begin_from(host, replace(plain, durable=True, seed=seed))
    if copy.template is None:
        raise HostUnfit("no_template", "no template could be made", "see daemon.log in PYRO_HOME")
    return copy, copy.template


async def _begun(
    host: Host, copy: MachineSpec, places: Places, workspace_id: str, leashes: list[Leash]
) -> WaitingMachine:
    def before_start(vmm: Detached) -> None:
        store.write_json(places.unclaimed_vmm(workspace_id), vmm, lasting=False)
        leashes.append(Leash(vmm))

    async with host.boot_slots:
        folder = await asyncio.to_thread(places.fresh_vmm_folder, workspace_id)
        identity = of_workspace(workspace_id, seed=False)
        return await kept.start_waiting(host.driver, copy, folder, identity, before_start)


async def _let_go(leashes: list[Leash]) -> None:
    for leash in leashes:
        await to_the_end(leash.let_go())


async def _removed(places: Places, workspace_id: str) -> None:
    await to_the_end(asyncio.to_thread(remove, places, workspace_id))
