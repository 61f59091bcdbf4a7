"""The test host as a machine under QEMU, whose emulated processor has AMD's virtualisation."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path

from pyro_mcp.process import Process, spawn
from pyro_mcp.vmm import tsc
from tests.kvmhost.host import monitor, pulse

EVIDENCE = "registers.txt"  # in the machine's folder, of a kernel that stood still, for a moment or for good
_CPU = "EPYC,+svm,+npt,-xsaves"
_MEM_MIB = 4096
# With two, about every hundredth guest under Firecracker was lost while it moved megabytes: behind an exit the emulated
# processor found none of its page tables and shut down (KVM_EXIT_SHUTDOWN, a page fault as it fetched the very next
# instruction, with the same CR3 as before), always with the other processor busy in the same VMM. Once the host's own
# kernel ended so. QEMU 7.2 and 10.0 are alike in this; with one processor it was not seen.
VCPUS = 1
_KERNEL_ARGUMENTS = (
    "console=ttyS0 loglevel=4 reboot=t panic=-1 cryptomgr.notests initcall_blacklist=init_kprobe_trace no_timer_check"
    " mitigations=off"
)


@dataclass(frozen=True)
class Parts:
    """What the machine boots from, its drives by name (the first are the read-only ones), and its folder here.

    It leaves in that folder `qemu.log`, `console.log`, `result.json` and `logs.tar`.
    """

    kernel: Path
    initramfs: Path
    inputs: Mapping[str, Path]
    scratch: Path
    folder: Path


class Ending(Enum):
    """How a machine's life ended."""

    TURNED_OFF = "it turned itself off"
    OUT_OF_TIME = "it was killed when its time was up"
    FROZEN = "it was killed when its kernel stood still"


@dataclass(frozen=True)
class _Channels:
    """Our ends of what connects us with QEMU."""

    output: socket.socket
    pulse: socket.socket
    monitor: socket.socket


async def run(
    parts: Parts,
    on_output: Callable[[bytes], None],
    seconds: float,
    silence_seconds: float = pulse.SILENCE_SECONDS,
) -> Ending:
    """Run the machine until it turns itself off; kill it after that many seconds, or when its kernel stands still
    although it was woken again and again.

    What the tests print goes to `on_output` as it comes.
    """
    with _started(parts) as (process, channels):
        copying = asyncio.create_task(_copy(channels.output, on_output))
        witness = monitor.Witness(channels.monitor, VCPUS, parts.folder / EVIDENCE)
        try:
            async with asyncio.timeout(seconds):
                silent = await pulse.stopped(channels.pulse, VCPUS, silence_seconds, witness.wake)
                if silent is None:
                    await process.wait()
                    return Ending.TURNED_OFF
            await witness.look(silent)
        except TimeoutError:
            return Ending.OUT_OF_TIME
        finally:
            await asyncio.shield(process.stop(grace_seconds=0))
            witness.close()
            await copying
    return Ending.FROZEN


@contextlib.contextmanager
def _started(parts: Parts) -> Iterator[tuple[Process, _Channels]]:
    """QEMU, started; whoever uses it also ends it."""
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
        names = [field.name for field in fields(_Channels)]
        pairs = {name: socket.socketpair() for name in names}
        for own, other in pairs.values():
            ours.enter_context(own)
            theirs.enter_context(other)
        fds = {name: other.fileno() for name, (_, other) in pairs.items()}
        with (parts.folder / "qemu.log").open("wb") as log:
            argv = _command_line(parts, fds)
            process = spawn(argv, pass_fds=fds.values(), stdout=log.fileno(), stderr=log.fileno())
        theirs.close()
        yield process, _Channels(**{name: own for name, (own, _) in pairs.items()})


async def _copy(channel: socket.socket, on_output: Callable[[bytes], None]) -> None:
    reader, writer = await asyncio.open_connection(sock=channel)
    while chunk := await reader.read(65536):
        on_output(chunk)
    writer.close()


def _command_line(parts: Parts, fds: Mapping[str, int]) -> list[str]:
    names = [*parts.inputs, "scratch"]
    # The kernel hands words that it does not know to /init, as variables.
    drives = " ".join(f"drive_{name}=/dev/vd{chr(ord('a') + number)}" for number, name in enumerate(names))
    khz = tsc.host_khz()
    rate = "" if khz is None else f" tsc=reliable tsc_early_khz={khz} lpj={khz * 4}"
    return [
        "qemu-system-x86_64",
        *("-M", "microvm,x-option-roms=off,rtc=on,acpi=on", "-bios", "qboot.rom"),
        *("-accel", "tcg,thread=multi", "-cpu", _CPU, "-smp", str(VCPUS), "-m", f"{_MEM_MIB}M"),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-chardev", f"socket,id=monitor,fd={fds['monitor']}", "-mon", "chardev=monitor,mode=control"),
        *("-kernel", str(parts.kernel), "-initrd", str(parts.initramfs)),
        *("-append", f"{_KERNEL_ARGUMENTS}{rate} {drives}"),
        *("-chardev", f"file,id=console,path={parts.folder / 'console.log'}", "-serial", "chardev:console"),
        *(word for name, file in parts.inputs.items() for word in _drive(name, file, "read-only=on")),
        *_drive("scratch", parts.scratch, "cache.no-flush=on,discard=unmap"),
        *("-device", "virtio-serial-device"),
        *_port(1, "output", f"socket,fd={fds['output']}"),
        *_port(2, "result", f"file,path={parts.folder / 'result.json'}"),
        *_port(3, "logs", f"file,path={parts.folder / 'logs.tar'}"),
        *_port(4, "pulse", f"socket,fd={fds['pulse']}"),
        *("-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-device,rng=rng"),
    ]


def _drive(name: str, file: Path, flags: str) -> list[str]:
    node = f"driver=raw,node-name={name},{flags},file.driver=file,file.filename={file},file.locking=off"
    return ["-blockdev", node, "-device", f"virtio-blk-device,drive={name}"]


def _port(number: int, name: str, backend: str) -> list[str]:
    kind, _, options = backend.partition(",")
    chardev = f"{kind},id={name},{options}"
    return ["-chardev", chardev, "-device", f"virtserialport,nr={number},chardev={name},name={name}"]
