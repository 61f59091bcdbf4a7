"""QEMU's command line.

It is the fastest of those measured; docs/architecture.md tells why each part is there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pyro_mcp.vmm.machine import MachineSpec

# Without an interval timer, which QEMU would go on emulating when the kernel has long turned to another.
_MACHINE = "microvm,x-option-roms=off,rtc=on,acpi=on,pit=off"
# The plain 64-bit model with what the guest's libraries and random pool can use; larger models boot more slowly. With
# `arat` the timer runs on while the processor sleeps, and the kernel does not tick when it has nothing to do.
_CPU = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand,+rdseed,+arat"
_KERNEL_ARGUMENTS = (
    "reboot=t panic=-1 cryptomgr.notests initcall_blacklist=init_kprobe_trace no_timer_check",
    # So that a guest that has nothing to do sleeps: no look at stuck processors, no tidying of memory in advance.
    "nowatchdog sysctl.vm.compaction_proactiveness=0",
    "pyro.channel=virtio-serial pyro.image=/dev/vda pyro.disk=/dev/vdb pyro.modules=/dev/vdc",
)
# What the guest cannot write on the host (its disk is full, say) is an error in the guest. By default QEMU would halt
# the machine until somebody tells it to go on, which nobody could.
_REPORT_ERRORS = "werror=report,rerror=report"
# Whatever the guest makes of QEMU, it gains no new process, privilege or setting.
_SECCOMP = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


@dataclass(frozen=True)
class GuestMemory:
    """A file that is the guest's memory. What the guest writes stays its own, unless the file is `shared`."""

    fd: int
    shared: bool = False


@dataclass(frozen=True)
class Wiring:
    """The descriptors that a machine is given beside its disk's.

    `channel_fd` is the agent's channel, connected or, if it `listens`, not yet. `monitor_fd` is a connected socket for
    QMP. A machine that is `restored` does not boot but waits for what it is told there. `others` are descriptors that
    it is told of there, or just keeps.
    """

    channel_fd: int
    listens: bool = False
    memory: GuestMemory | None = None
    monitor_fd: int | None = None
    restored: bool = False
    others: tuple[int, ...] = ()

    def fds(self) -> tuple[int, ...]:
        """All of them."""
        memory_fd = None if self.memory is None else self.memory.fd
        every = (self.channel_fd, memory_fd, self.monitor_fd, *self.others)
        return tuple(fd for fd in every if fd is not None)


def command_line(program: str, spec: MachineSpec, wiring: Wiring, *, tsc_khz: int | None, console: bool) -> list[str]:
    """QEMU's arguments for a machine; descriptors keep their numbers."""
    server = ",server=on,wait=off" if wiring.listens else ""
    return [
        program,
        *("-M", _MACHINE, "-bios", "qboot.rom", "-accel", "tcg,thread=multi", "-cpu", _CPU),
        *("-smp", str(spec.vcpu_count), "-m", f"{spec.mem_mib}M"),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-sandbox", _SECCOMP),
        *_memory(spec, wiring.memory),
        *_beginning(spec, wiring, kernel_arguments(spec, tsc_khz, console=console)),
        *_monitor(wiring.monitor_fd),
        *_console(console),
        # The guest knows them by this order.
        *_input("image", spec.image),
        *_disk(spec.disk_fd, durable=spec.durable),
        *_input("modules", spec.modules),
        *(() if spec.seed is None else _input("seed", spec.seed)),
        *("-chardev", f"socket,id=agent,fd={wiring.channel_fd}{server}", "-device", "virtio-serial-device"),
        *("-device", "virtserialport,chardev=agent,name=agent"),
        *("-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-device,rng=rng"),
    ]


def _memory(spec: MachineSpec, memory: GuestMemory | None) -> Sequence[str]:
    if memory is None:
        return ()
    share = "on" if memory.shared else "off"
    file = f"memory-backend-file,id=memory,size={spec.mem_mib}M,mem-path=/proc/self/fd/{memory.fd},share={share}"
    return ("-object", file, "-machine", "memory-backend=memory")


def _beginning(spec: MachineSpec, wiring: Wiring, arguments: str) -> Sequence[str]:
    if wiring.restored:
        return ("-incoming", "defer")
    return ("-kernel", str(spec.kernel), "-initrd", str(spec.initramfs), "-append", arguments)


def _monitor(fd: int | None) -> Sequence[str]:
    if fd is None:
        return ()
    return ("-chardev", f"socket,id=monitor,fd={fd}", "-mon", "chardev=monitor,mode=control")


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
