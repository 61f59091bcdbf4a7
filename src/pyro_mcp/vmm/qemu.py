"""Machines under QEMU without KVM (TCG): what makes pyro work where there is no working KVM.

The command line is the fastest of those measured; docs/architecture.md tells why each part is there. A machine that is
thrown away has no named file or socket of its own: disk and channel are open descriptors, so nothing can stay behind.
One that is kept listens on a socket that its owner has bound, and dies with the process that `start_kept` returns.
"""

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pyro_mcp.errors import HostUnfit
from pyro_mcp.process import Detached, Process, Tail, spawn, spawn_detached
from pyro_mcp.start_gate import StartGate, behind
from pyro_mcp.vmm import confine, tsc
from pyro_mcp.vmm.machine import Machine, MachineSpec

PROGRAM = "qemu-system-x86_64"
_CONSOLE_BYTES = 64 * 1024
_GONE_SECONDS = 5.0

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
_ENVIRONMENT = {"PATH": os.defpath, "LANG": "C.UTF-8"}  # nothing of the user's
# Whatever the guest makes of QEMU, it gains no new process, privilege or setting.
_SECCOMP = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


@dataclass(frozen=True)
class QemuDriver:
    """Boots machines under QEMU. `confined` says whether this host can confine them; `console` keeps what the guest's
    kernel prints, which makes the boot slower."""

    confined: bool = True
    console: bool = False
    name: str = "qemu"

    @asynccontextmanager
    async def boot(self, spec: MachineSpec) -> AsyncIterator[Machine]:
        """See `Driver.boot`."""
        program = _program()
        await asyncio.to_thread(tsc.host_khz)  # measured once, not on the event loop
        ours, theirs = socket.socketpair()
        output, output_writer = os.pipe()
        tail = Tail(output, _CONSOLE_BYTES)
        gate = StartGate()
        try:
            process = self._spawn(program, spec, theirs.fileno(), gate, output_writer)
        except BaseException:
            gate.close()
            ours.close()
            tail.finish()
            raise
        finally:
            theirs.close()
            os.close(output_writer)
        try:
            with gate:
                await gate.pass_through(lambda: process.exit_code is None)
            yield Machine(self.name, process, ours, _text_of(tail))
        finally:
            ours.close()
            await asyncio.shield(_end(process, tail))

    def start_kept(
        self, spec: MachineSpec, listener: socket.socket, log_fd: int, before_start: Callable[[Detached], None]
    ) -> Detached:
        """See `KeepingDriver.start_kept`."""
        return spawn_detached(
            self._argv(_program(), spec, listener.fileno(), listens=True),
            env=_ENVIRONMENT,
            pass_fds=(spec.disk_fd, listener.fileno()),
            output=log_fd,
            limits=_limits(spec),
            before_start=before_start,
        )

    def _spawn(self, program: str, spec: MachineSpec, channel_fd: int, gate: StartGate, output_fd: int) -> Process:
        return spawn(
            self._argv(program, spec, channel_fd, listens=False),
            env=_ENVIRONMENT,
            cwd=Path("/"),
            pass_fds=(spec.disk_fd, channel_fd),
            stdin=gate.inner.fileno(),
            stdout=output_fd,
            stderr=output_fd,
            limits=_limits(spec),
            # Not before bubblewrap asks for that itself: its inner half cannot end while it waits for the outer one.
            dies_with_us=not self.confined,
        )

    def _argv(self, program: str, spec: MachineSpec, channel_fd: int, *, listens: bool) -> list[str]:
        inside, inputs = _inside(spec) if self.confined else (spec, {})
        khz = tsc.host_khz()
        argv = behind(command_line(program, inside, channel_fd, tsc_khz=khz, console=self.console, listens=listens))
        return confine.confined(argv, inputs) if self.confined else argv


def _program() -> str:
    program = shutil.which(PROGRAM)
    if program is None:
        raise HostUnfit("no_vmm", f"{PROGRAM} is not installed", "apt-get install qemu-system-x86")
    return program


def _limits(spec: MachineSpec) -> Mapping[int, int]:
    return confine.limits(mem_mib=spec.mem_mib, disk_bytes=os.fstat(spec.disk_fd).st_size)


def _inside(spec: MachineSpec) -> tuple[MachineSpec, Mapping[Path, Path]]:
    """The machine as it is seen from inside its sandbox, and what is shown there."""
    names = [name for name in ("kernel", "initramfs", "modules", "image", "seed") if getattr(spec, name) is not None]
    inside = {name: confine.INPUTS / name for name in names}
    return replace(spec, **inside), {inside[name]: getattr(spec, name) for name in names}  # type: ignore[arg-type]


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
    if spec.workspace:
        words.append("pyro.workspace=on")
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


def _text_of(tail: Tail) -> Callable[[], str]:
    return lambda: tail.data.decode(errors="replace")


async def _end(process: Process, tail: Tail) -> None:
    """Kill a VMM and wait until nothing of it is left.

    The process that we started may be the sandbox around the VMM, which the kernel kills next; its output pipe tells
    when the last process that held it is gone.
    """
    process.kill_group()  # of a sandbox that is being set up both halves have to be killed
    await process.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_GONE_SECONDS):
            await tail.closed.wait()
    tail.finish()
