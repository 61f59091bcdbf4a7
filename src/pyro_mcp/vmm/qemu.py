"""Machines under QEMU without KVM (TCG): what makes pyro work where there is no working KVM.

The command line is the fastest of those measured; docs/architecture.md tells why each part is there. A machine that is
thrown away has no named file or socket of its own: disk and channel are open descriptors, so nothing can stay behind.
One that is kept listens on a socket that its owner has bound, and dies with the process that `start_kept` returns.
"""

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pyro_mcp.errors import HostUnfit
from pyro_mcp.process import Detached
from pyro_mcp.unix_path import connect_to
from pyro_mcp.vmm import cgroup, confine, tsc, user_ids, vmm_process
from pyro_mcp.vmm.channel import AGENT_SOCKET
from pyro_mcp.vmm.inputs import seen_inside
from pyro_mcp.vmm.machine import Machine, MachineSpec, OpenChannel

PROGRAM = "qemu-system-x86_64"

_MACHINE = "microvm,x-option-roms=off,rtc=on,acpi=on"
# The plain 64-bit model with what the guest's libraries and random pool can use; larger models boot more slowly.
_CPU = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand,+rdseed"
_KERNEL_ARGUMENTS = (
    "reboot=t panic=-1 cryptomgr.notests initcall_blacklist=init_kprobe_trace no_timer_check",
    "pyro.channel=virtio-serial pyro.image=/dev/vda pyro.disk=/dev/vdb pyro.modules=/dev/vdc",
)
# What the guest cannot write on the host (its disk is full, say) is an error in the guest. By default QEMU would halt
# the machine until somebody tells it to go on, which nobody could.
_REPORT_ERRORS = "werror=report,rerror=report"
# Whatever the guest makes of QEMU, it gains no new process, privilege or setting.
_SECCOMP = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


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
        await asyncio.to_thread(tsc.host_khz)  # measured once, not on the event loop
        ours, theirs = socket.socketpair()
        async with AsyncExitStack() as stack:
            stack.enter_context(ours)
            with theirs:
                program = self._program(spec, theirs.fileno(), cgroup.new_name(), listens=False)
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
        program = self._program(spec, listener.fileno(), cgroup.name_for(folder), listens=True)
        return vmm_process.start_kept(program, log_fd, before_start)

    def channel(self, folder: Path, listener: socket.socket) -> OpenChannel:
        """See `Driver.channel`."""
        listener.close()  # it has its own, and while others have it, too, a dead VMM seems to listen
        return partial(connect_to, folder / AGENT_SOCKET)

    def _program(self, spec: MachineSpec, channel_fd: int, group: str, *, listens: bool) -> vmm_process.Program:
        inside, inputs = seen_inside(spec) if self.confined else (spec, {})
        khz = tsc.host_khz()
        argv = command_line(_program(), inside, channel_fd, tsc_khz=khz, console=self.console, listens=listens)
        sandbox = confine.Sandbox(inputs, user=user_ids.for_vmm()) if self.confined else None
        limits = confine.limits(mem_mib=spec.mem_mib, file_bytes=os.fstat(spec.disk_fd).st_size)
        return vmm_process.Program(argv, (spec.disk_fd, channel_fd), limits, sandbox, group, spec.mem_mib)


async def _ready(channel: socket.socket) -> socket.socket:
    """The end of a socket pair; the guest that is at the other end need not have booted."""
    return channel


def _program() -> str:
    program = shutil.which(PROGRAM)
    if program is None:
        raise HostUnfit("no_vmm", f"{PROGRAM} is not installed", "apt-get install qemu-system-x86")
    return program


def command_line(
    program: str, spec: MachineSpec, channel_fd: int, *, tsc_khz: int | None, console: bool, listens: bool = False
) -> list[str]:
    """QEMU's arguments for a machine; descriptors keep their numbers. `listens` says that the channel's does."""
    server = ",server=on,wait=off" if listens else ""
    return [
        program,
        *("-M", _MACHINE, "-bios", "qboot.rom", "-accel", "tcg,thread=multi", "-cpu", _CPU),
        *("-smp", str(spec.vcpu_count), "-m", f"{spec.mem_mib}M"),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-sandbox", _SECCOMP),
        *("-kernel", str(spec.kernel), "-initrd", str(spec.initramfs)),
        *("-append", kernel_arguments(spec, tsc_khz, console=console)),
        *_console(console),
        # The guest knows them by this order.
        *_input("image", spec.image),
        *_disk(spec.disk_fd, durable=spec.durable),
        *_input("modules", spec.modules),
        *(() if spec.seed is None else _input("seed", spec.seed)),
        *("-chardev", f"socket,id=agent,fd={channel_fd}{server}", "-device", "virtio-serial-device"),
        *("-device", "virtserialport,chardev=agent,name=agent"),
        *("-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-device,rng=rng"),
    ]


def kernel_arguments(spec: MachineSpec, tsc_khz: int | None, *, console: bool) -> str:
    """The guest kernel's command line; without a known counter rate the kernel finds it out, slowly."""
    words = [*_KERNEL_ARGUMENTS, "console=ttyS0 loglevel=6" if console else "quiet 8250.nr_uarts=0"]
    if spec.seed is not None:
        words.append("pyro.seed=/dev/vdd")
    if tsc_khz is not None:
        # lpj is loops per jiffy at the Debian kernel's 250 Hz.
        words.append(f"tsc=reliable tsc_early_khz={tsc_khz} lpj={tsc_khz * 4}")
    return " ".join(words)


def _console(wanted: bool) -> Sequence[str]:
    if not wanted:
        return ()
    return ("-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console")


def _input(name: str, file: Path) -> list[str]:
    return _drive(name, str(file), "read-only=on")


def _disk(fd: int, *, durable: bool) -> list[str]:
    # A machine that is thrown away, or whose disk is put in order before it is kept, need not flush to the host's disk.
    flags = "discard=unmap" if durable else "cache.no-flush=on,discard=unmap"
    return ["-add-fd", f"fd={fd},set={fd}", *_drive("disk", f"/dev/fdset/{fd}", flags)]


def _drive(name: str, file: str, flags: str) -> list[str]:
    node = f"driver=raw,node-name={name},{flags},file.driver=file,file.filename={file},file.locking=off"
    return ["-blockdev", node, "-device", f"virtio-blk-device,drive={name},{_REPORT_ERRORS}"]
