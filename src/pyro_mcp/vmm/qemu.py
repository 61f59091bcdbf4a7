"""Machines under QEMU without KVM (TCG): what makes pyro work where there is no working KVM.

A machine that is thrown away has no named file or socket of its own: disk and channel are open descriptors, so
nothing can stay behind. One that is kept listens on a socket that its owner has bound, and dies with the process that
`start_kept` returns.
"""

import asyncio
import json
import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pyro_mcp import sparse
from pyro_mcp.errors import HostUnfit
from pyro_mcp.process import Detached
from pyro_mcp.to_the_end import to_the_end
from pyro_mcp.unix_path import connect_to
from pyro_mcp.vmm import cgroup, confine, sealed, tsc, user_ids, vmm_process
from pyro_mcp.vmm.channel import AGENT_SOCKET
from pyro_mcp.vmm.inputs import seen_inside
from pyro_mcp.vmm.machine import Machine, MachineSpec, OpenChannel
from pyro_mcp.vmm.qemu_command import GuestMemory, Wiring, command_line
from pyro_mcp.vmm.qemu_orders import restore_orders
from pyro_mcp.vmm.template import Template, UntilReady

PROGRAM = "qemu-system-x86_64"


@dataclass(frozen=True)
class QemuDriver:
    """Boots machines under QEMU. `confined` says whether this host can confine them; `console` keeps what the guest's
    kernel prints."""

    confined: bool = True
    console: bool = False
    name: str = "qemu"
    listens_at: str = AGENT_SOCKET

    def with_console(self) -> "QemuDriver":
        """See `Driver.with_console`."""
        return replace(self, console=True)

    @asynccontextmanager
    async def boot(self, spec: MachineSpec) -> AsyncIterator[Machine]:
        """See `Driver.boot`."""
        await asyncio.to_thread(_get_ready, spec)
        ours, theirs = socket.socketpair()
        async with AsyncExitStack() as stack:
            stack.enter_context(ours)
            with theirs, self._wired(spec, Wiring(theirs.fileno())) as wiring:
                program = self._program(spec, wiring, cgroup.new_name())
                process, printed = await stack.enter_async_context(vmm_process.running(program))
            yield Machine(self.name, process, partial(_ready, ours), vmm_process.text_of(printed))

    def start_kept(
        self,
        spec: MachineSpec,
        folder: Path,
        listener: socket.socket,
        log_fd: int,
        before_start: Callable[[Detached], None],
    ) -> Detached:
        """See `Driver.start_kept`."""
        with self._wired(spec, Wiring(listener.fileno(), listens=True)) as wiring:
            program = self._program(spec, wiring, cgroup.name_for(folder))
            return vmm_process.start_kept(program, log_fd, before_start)

    def shape(self, spec: MachineSpec) -> str:
        """See `Driver.shape`."""
        program = Path(_program()).resolve()
        about = program.stat()
        inside, _ = seen_inside(replace(spec, disk_fd=0))
        words = command_line(str(program), inside, Wiring(0), tsc_khz=None, console=False)
        return json.dumps([about.st_size, about.st_mtime_ns, *words])

    def channel(self, spec: MachineSpec, folder: Path, listener: socket.socket) -> OpenChannel:
        """See `Driver.channel`."""
        listener.close()  # it has its own, and while others have it, too, a dead VMM seems to listen
        return partial(connect_to, folder / AGENT_SOCKET)

    async def make_template(self, spec: MachineSpec, folder: Path, until_ready: UntilReady) -> None:
        """See `Driver.make_template`."""
        await asyncio.to_thread(_get_ready, spec)
        with _TemplateFiles(spec.mem_mib) as files:
            await self._save(spec, files, until_ready)
            await to_the_end(asyncio.to_thread(files.write_to, Template(folder)))

    async def _save(self, spec: MachineSpec, files: "_TemplateFiles", until_ready: UntilReady) -> None:
        ours, theirs = socket.socketpair()
        monitor, its_monitor = socket.socketpair()
        async with AsyncExitStack() as stack:
            for end in (ours, monitor):
                stack.enter_context(end)
            with theirs, its_monitor:
                memory = GuestMemory(files.memory, shared=True)
                wiring = Wiring(theirs.fileno(), memory=memory, monitor_fd=its_monitor.fileno())
                program = self._program(spec, wiring, cgroup.new_name())
                await stack.enter_async_context(vmm_process.running(program))
            await until_ready(partial(_ready, ours))
            ours.close()
            from pyro_mcp.vmm.qemu_monitor import save_state  # noqa: PLC0415  (rare, and slow to import)

            await save_state(monitor, files.state)

    @contextmanager
    def _wired(self, spec: MachineSpec, wiring: Wiring) -> Iterator[Wiring]:
        """With what a machine begins from, if that is a template; QEMU has its own copies of the descriptors."""
        if spec.template is None:
            yield wiring
            return
        with ExitStack() as stack:
            memory = sealed.copies.of(spec.template.memory)
            stack.callback(os.close, memory)
            state = sealed.copies.of(spec.template.state)
            stack.callback(os.close, state)
            incoming = sealed.opened_again(state)  # QEMU reads on from where the descriptor stands
            stack.callback(os.close, incoming)
            order, monitor = socket.socketpair()
            stack.enter_context(order)
            stack.enter_context(monitor)
            order.sendall(restore_orders(incoming))
            # The end that the orders come from has to stay open, and nobody but the VMM itself should hold it.
            others = (incoming, order.fileno())
            yield replace(wiring, memory=GuestMemory(memory), monitor_fd=monitor.fileno(), restored=True, others=others)

    def _program(self, spec: MachineSpec, wiring: Wiring, group: str) -> vmm_process.Program:
        inside, inputs = seen_inside(spec) if self.confined else (spec, {})
        khz = tsc.host_khz()
        argv = command_line(_program(), inside, wiring, tsc_khz=khz, console=self.console)
        sandbox = confine.Sandbox(inputs, user=user_ids.for_vmm()) if self.confined else None
        limits = confine.limits(mem_mib=spec.mem_mib, file_bytes=os.fstat(spec.disk_fd).st_size)
        return vmm_process.Program(argv, (spec.disk_fd, *wiring.fds()), limits, sandbox, group, spec.mem_mib)


class _TemplateFiles:
    """What QEMU writes a template to: files in memory, which become files of a folder when they are complete."""

    def __init__(self, mem_mib: int) -> None:
        self.memory = sealed.new("memory")
        self.state = sealed.new("state")
        os.ftruncate(self.memory, mem_mib << 20)

    def __enter__(self) -> "_TemplateFiles":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.memory)
        os.close(self.state)

    def write_to(self, template: Template) -> None:
        """Write them down; blocks."""
        for source, path in ((self.memory, template.memory), (self.state, template.state)):
            sparse.copy_to(source, path)


def _get_ready(spec: MachineSpec) -> None:
    """What is done once and takes its time, for later calls to find it done; blocks."""
    tsc.host_khz()
    if spec.template is not None:
        for file in (spec.template.memory, spec.template.state):
            os.close(sealed.copies.of(file))


async def _ready(channel: socket.socket) -> socket.socket:
    """The end of a socket pair; the guest that is at the other end need not have booted."""
    return channel


def _program() -> str:
    program = shutil.which(PROGRAM)
    if program is None:
        raise HostUnfit("no_vmm", f"{PROGRAM} is not installed", "apt-get install qemu-system-x86")
    return program
