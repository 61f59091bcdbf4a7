"""Machines under QEMU without KVM (TCG): what makes pyro work where there is no working KVM.

The command line is the fastest of those measured; docs/architecture.md tells why each part is there. A machine has no
named file or socket of its own: disk and channel are open descriptors, so nothing can be left behind.
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
from pyro_mcp.process import Process, Tail, spawn
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
        program = shutil.which(PROGRAM)
        if program is None:
            raise HostUnfit("no_vmm", f"{PROGRAM} is not installed", "apt-get install qemu-system-x86")
        await asyncio.to_thread(tsc.host_khz)  # measured once, not on the event loop
        ours, theirs = socket.socketpair()
        output, output_writer = os.pipe()
        tail = Tail(output, _CONSOLE_BYTES)
        try:
            process = self._spawn(program, spec, theirs.fileno(), output_writer)
        except BaseException:
            ours.close()
            tail.finish()
            raise
        finally:
            theirs.close()
            os.close(output_writer)
        try:
            yield Machine(self.name, process, ours, _text_of(tail))
        finally:
            ours.close()
            await asyncio.shield(_end(process, tail))

    def _spawn(self, program: str, spec: MachineSpec, channel_fd: int, output_fd: int) -> Process:
        khz = tsc.host_khz()
        if self.confined:
            inside, inputs = _inside(spec)
            argv = confine.confined(
                command_line(program, inside, channel_fd, tsc_khz=khz, console=self.console), inputs
            )
        else:
            argv = command_line(program, spec, channel_fd, tsc_khz=khz, console=self.console)
        return spawn(
            argv,
            env={"PATH": os.defpath, "LANG": "C.UTF-8"},  # nothing of the user's
            cwd=Path("/"),
            pass_fds=(spec.disk_fd, channel_fd),
            stdout=output_fd,
            stderr=output_fd,
            limits=confine.limits(mem_mib=spec.mem_mib, disk_bytes=os.fstat(spec.disk_fd).st_size),
        )


def _inside(spec: MachineSpec) -> tuple[MachineSpec, Mapping[Path, Path]]:
    """The machine as it is seen from inside its sandbox, and what is shown there."""
    names = ("kernel", "initramfs", "modules", "image")
    inside = {name: confine.INPUTS / name for name in names}
    return replace(spec, **inside), {inside[name]: getattr(spec, name) for name in names}  # type: ignore[arg-type]


def command_line(program: str, spec: MachineSpec, channel_fd: int, *, tsc_khz: int | None, console: bool) -> list[str]:
    """QEMU's arguments for a machine; descriptors keep their numbers."""
    return [
        program,
        *("-M", _MACHINE, "-bios", "qboot.rom", "-accel", "tcg,thread=multi", "-cpu", _CPU),
        *("-smp", str(spec.vcpu_count), "-m", f"{spec.mem_mib}M"),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-sandbox", _SECCOMP),
        *("-kernel", str(spec.kernel), "-initrd", str(spec.initramfs)),
        *("-append", kernel_arguments(tsc_khz, console=console)),
        *_console(console),
        *_drive("image", str(spec.image), read_only=True),
        *_drive("disk", f"/dev/fdset/{spec.disk_fd}", read_only=False, fd=spec.disk_fd),
        *_drive("modules", str(spec.modules), read_only=True),
        *("-chardev", f"socket,id=agent,fd={channel_fd}", "-device", "virtio-serial-device"),
        *("-device", "virtserialport,chardev=agent,name=agent"),
        *("-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-device,rng=rng"),
    ]


def kernel_arguments(tsc_khz: int | None, *, console: bool) -> str:
    """The guest kernel's command line; without a known counter rate the kernel finds it out, slowly."""
    words = [*_KERNEL_ARGUMENTS, "console=ttyS0 loglevel=6" if console else "quiet 8250.nr_uarts=0"]
    if tsc_khz is not None:
        # lpj is loops per jiffy at the Debian kernel's 250 Hz.
        words.append(f"tsc=reliable tsc_early_khz={tsc_khz} lpj={tsc_khz * 4}")
    return " ".join(words)


def _console(wanted: bool) -> Sequence[str]:
    if not wanted:
        return ()
    return ("-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console")


def _drive(name: str, file: str, *, read_only: bool, fd: int | None = None) -> list[str]:
    # A machine that is thrown away, or whose disk is put in order before it is kept, need not flush to the host's disk.
    flags = "read-only=on" if read_only else "cache.no-flush=on,discard=unmap"
    passed = [] if fd is None else ["-add-fd", f"fd={fd},set={fd}"]
    node = f"driver=raw,node-name={name},{flags},file.driver=file,file.filename={file},file.locking=off"
    return [*passed, "-blockdev", node, "-device", f"virtio-blk-device,drive={name}"]


def _text_of(tail: Tail) -> Callable[[], str]:
    return lambda: tail.data.decode(errors="replace")


async def _end(process: Process, tail: Tail) -> None:
    """Kill a VMM and wait until nothing of it is left.

    The process that we started may be the sandbox around the VMM, which the kernel kills next; its output pipe tells
    when the last process that held it is gone.
    """
    await process.stop(grace_seconds=0)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_GONE_SECONDS):
            await tail.closed.wait()
    tail.finish()
