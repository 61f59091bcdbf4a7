"""Machines under Firecracker, where KVM runs guests.

Each machine has a folder of its own, where its VMM works and puts its sockets. What the VMM opens has names that are
the same for all machines: in that folder, or among the inputs of its sandbox. So a snapshot of one machine can be
restored as another. The VMM boots at once by a configuration that holds all there is to say.
"""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pyro_mcp import regular_file, sparse
from pyro_mcp.process import Detached
from pyro_mcp.to_the_end import to_the_end
from pyro_mcp.vmm import cgroup, channel, confine, firecracker_api, vmm_process, vsock
from pyro_mcp.vmm.firecracker_api import FirecrackerApi, SnapshotPaths
from pyro_mcp.vmm.firecracker_config import DISK, configuration, configuration_file
from pyro_mcp.vmm.firecracker_sandbox import PROGRAM, sandbox_for
from pyro_mcp.vmm.inputs import seen_inside
from pyro_mcp.vmm.machine import Machine, MachineSpec, OpenChannel
from pyro_mcp.vmm.own_folder import own_folder
from pyro_mcp.vmm.template import Template, UntilReady

# The names of a `Template`'s files.
_TAKEN = SnapshotPaths("state", "memory")
_RESTORED = SnapshotPaths(str(confine.INPUTS / "snapshot.state"), str(confine.INPUTS / "snapshot.memory"))
# That a guest reset itself, which ends its VMM, is none of the VMM's errors but worth a word.
_LOG_LEVEL = "Info"
_WITH_API = ("--api-sock", firecracker_api.SOCKET)


@dataclass(frozen=True)
class FirecrackerDriver:
    """Boots machines under Firecracker. `program` is its binary; machines that are thrown away have their folders below
    `run_dir`. `confined` and `console` are as in `QemuDriver`."""

    program: Path
    run_dir: Path
    confined: bool = True
    console: bool = False
    name: str = channel.FIRECRACKER
    listens_at: str = vsock.KNOCK_SOCKET

    def with_console(self) -> "FirecrackerDriver":
        """See `Driver.with_console`."""
        return replace(self, console=True)

    @asynccontextmanager
    async def boot(self, spec: MachineSpec) -> AsyncIterator[Machine]:
        """See `Driver.boot`."""
        async with AsyncExitStack() as stack:
            folder = stack.enter_context(own_folder(self.run_dir))
            listener = stack.enter_context(channel.listening(folder / self.listens_at))
            with self._starting(spec, folder, "--no-api") as program:
                process, printed = await stack.enter_async_context(vmm_process.running(program))
            opening = channel.while_alive(self.channel(spec, folder, listener), process.wait)
            yield Machine(self.name, process, opening, vmm_process.text_of(printed), reopens=True)

    def start_kept(
        self,
        spec: MachineSpec,
        folder: Path,
        listener: socket.socket,  # the VMM finds it by its name
        log_fd: int,
        before_start: Callable[[Detached], None],
    ) -> Detached:
        """See `Driver.start_kept`."""
        with self._starting(spec, folder, *_WITH_API) as program:
            return vmm_process.start_kept(program, log_fd, before_start)

    def channel(self, spec: MachineSpec, folder: Path, listener: socket.socket) -> OpenChannel:
        """See `Driver.channel`."""
        if spec.template is None:
            return partial(_open_channel, folder, listener)
        return _Restoring(self, folder, spec.template).open_channel

    def shape(self, spec: MachineSpec) -> str:
        """See `Driver.shape`."""
        return json.dumps(configuration(seen_inside(spec)[0], console=False))

    async def make_template(self, spec: MachineSpec, folder: Path, until_ready: UntilReady) -> None:
        """See `Driver.make_template`."""
        with own_folder(self.run_dir) as own, channel.listening(own / self.listens_at) as listener:
            async with AsyncExitStack() as stack:
                # Whether it lasts what a guest flushes is part of the state, too.
                durable = replace(spec, durable=True)
                with self._booting(durable, own, *_WITH_API, tracked=True) as program:
                    process, _ = await stack.enter_async_context(vmm_process.running(program))
                opening = channel.while_alive(self.channel(spec, own, listener), process.wait)
                # A copy's VMM numbers connections as this one does, and a guest that has not yet dealt with the end of
                # the first would end its namesake. It has when it answers on the second.
                for _ in range(2):
                    await until_ready(opening)
                api = FirecrackerApi(own)
                await api.pause()
                await api.create_snapshot(_TAKEN, written_alone=True)
            await to_the_end(asyncio.to_thread(_take, own, Template(folder)))

    async def pause(self, folder: Path) -> None:
        """Stop the processors of a kept machine's guest. Raises `GuestFailed`."""
        await FirecrackerApi(folder).pause()

    async def resume(self, folder: Path) -> None:
        """Let them go on. Raises `GuestFailed`."""
        await FirecrackerApi(folder).resume()

    async def snapshot(self, folder: Path) -> Template:
        """Write down a kept machine that is paused; its disk is the caller's to copy meanwhile.

        The files are new ones in its VMM's folder, for the caller to move away. Raises `GuestFailed`.
        """
        await FirecrackerApi(folder).create_snapshot(_TAKEN)
        return Template(folder)

    def start_restored(
        self,
        spec: MachineSpec,
        folder: Path,
        template: Template,
        log_fd: int,
        before_start: Callable[[Detached], None],
    ) -> Detached:
        """As `start_kept`, for a machine like the one that was written down; it begins when told to `restore`.

        Raises `OSError`, too.
        """
        for file in (template.state, template.memory):
            with _opened(file) as fd:
                os.fchmod(fd, 0o444)  # the VMM that reads it need not be of the user that wrote it
        program = self._program(spec, folder, spec.disk_fd, template=template)
        return vmm_process.start_kept(program, log_fd, before_start)

    async def restore(self, folder: Path, template: Template) -> None:
        """Let a machine of `start_restored` go on where that one was. Raises `GuestFailed`."""
        api = FirecrackerApi(folder)
        await api.wait_until_there()
        outside = SnapshotPaths(str(template.state), str(template.memory))
        await api.load_snapshot(_RESTORED if self.confined else outside)

    @contextmanager
    def _starting(self, spec: MachineSpec, folder: Path, *words: str) -> Iterator[vmm_process.Program]:
        """What starts the machine, which boots or waits to be restored; `words` are for the former."""
        if spec.template is not None:
            yield self._program(spec, folder, spec.disk_fd, template=spec.template)
            return
        with self._booting(spec, folder, *words) as program:
            yield program

    @contextmanager
    def _booting(
        self, spec: MachineSpec, folder: Path, *words: str, tracked: bool = False
    ) -> Iterator[vmm_process.Program]:
        """What boots the machine; the VMM has its own copies of the descriptors once it runs."""
        inside = seen_inside(spec)[0] if self.confined else spec
        with configuration_file(configuration(inside, console=self.console, tracked=tracked)) as config:
            told = ("--config-file", f"/proc/self/fd/{config}")
            yield self._program(spec, folder, spec.disk_fd, config, words=(*words, *told))

    def _program(
        self,
        spec: MachineSpec,
        folder: Path,
        *fds: int,
        words: Sequence[str] = _WITH_API,
        template: Template | None = None,
    ) -> vmm_process.Program:
        (folder / DISK).symlink_to(f"/proc/self/fd/{spec.disk_fd}")
        return vmm_process.Program(
            [str(PROGRAM if self.confined else self.program), *words, "--level", _LOG_LEVEL],
            fds,
            # It may write its guest's memory into a file.
            confine.limits(mem_mib=spec.mem_mib, file_bytes=max(os.fstat(spec.disk_fd).st_size, spec.mem_mib << 20)),
            self._sandbox(spec, folder, template) if self.confined else None,
            cgroup.name_for(folder),
            spec.mem_mib,
            folder,
        )

    def _sandbox(self, spec: MachineSpec, folder: Path, template: Template | None) -> confine.Sandbox:
        _, inputs = seen_inside(spec)
        restored = {}
        if template is not None:
            restored = {Path(_RESTORED.state): template.state, Path(_RESTORED.memory): template.memory}
        return sandbox_for(self.program, {**inputs, **restored}, folder, spec.disk_fd)


@dataclass
class _Restoring:
    """A machine that begins from a template when its channel is opened for the first time."""

    driver: FirecrackerDriver
    folder: Path
    template: Template
    restored: bool = False

    async def open_channel(self) -> socket.socket:
        if not self.restored:
            await self.driver.restore(self.folder, self.template)
            self.restored = True
        return await vsock.open_connection(self.folder)


def _take(folder: Path, template: Template) -> None:
    """Copy what a VMM wrote into files that are ours; blocks."""
    for name, path in ((_TAKEN.state, template.state), (_TAKEN.memory, template.memory)):
        with _opened(folder / name) as source:
            sparse.copy_to(source, path)


@contextmanager
def _opened(file: Path) -> Iterator[int]:
    """A file that a VMM made, whose guest may have taken it over and put anything in that place."""
    fd = regular_file.opened(file)
    try:
        yield fd
    finally:
        os.close(fd)


async def _open_channel(folder: Path, listener: socket.socket) -> socket.socket:
    """After the knock, the first time; at once afterwards."""
    knock = folder / vsock.KNOCK_SOCKET
    if knock.exists():
        await vsock.wait_for_knock(listener)
        knock.unlink(missing_ok=True)
    return await vsock.open_connection(folder)
