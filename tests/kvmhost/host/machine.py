"""The test host as a machine under QEMU, whose emulated processor has AMD's virtualisation."""

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pyro_mcp.process import spawn
from pyro_mcp.vmm import tsc

_CPU = "EPYC,+svm,+npt,-xsaves"
_MEM_MIB = 4096
_VCPUS = 2
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


async def run(parts: Parts, on_output: Callable[[bytes], None], seconds: float) -> bool:
    """Run the machine until it turns itself off, or kill it after that many seconds (False).

    What the tests print goes to `on_output` as it comes.
    """
    ours, theirs = socket.socketpair()
    try:
        with (parts.folder / "qemu.log").open("wb") as log:
            argv = _command_line(parts, theirs.fileno())
            process = spawn(argv, pass_fds=[theirs.fileno()], stdout=log.fileno(), stderr=log.fileno())
    finally:
        theirs.close()
    copying = asyncio.create_task(_copy(ours, on_output))
    try:
        async with asyncio.timeout(seconds):
            await process.wait()
    except TimeoutError:
        return False
    finally:
        await asyncio.shield(process.stop(grace_seconds=0))
        await copying
    return True


async def _copy(channel: socket.socket, on_output: Callable[[bytes], None]) -> None:
    reader, writer = await asyncio.open_connection(sock=channel)
    while chunk := await reader.read(65536):
        on_output(chunk)
    writer.close()


def _command_line(parts: Parts, output_fd: int) -> list[str]:
    names = [*parts.inputs, "scratch"]
    # The kernel hands words that it does not know to /init, as variables.
    drives = " ".join(f"drive_{name}=/dev/vd{chr(ord('a') + number)}" for number, name in enumerate(names))
    khz = tsc.host_khz()
    rate = "" if khz is None else f" tsc=reliable tsc_early_khz={khz} lpj={khz * 4}"
    return [
        "qemu-system-x86_64",
        *("-M", "microvm,x-option-roms=off,rtc=on,acpi=on", "-bios", "qboot.rom"),
        *("-accel", "tcg,thread=multi", "-cpu", _CPU, "-smp", str(_VCPUS), "-m", f"{_MEM_MIB}M"),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-monitor", f"unix:{parts.folder / 'monitor'},server=on,wait=off"),
        *("-kernel", str(parts.kernel), "-initrd", str(parts.initramfs)),
        *("-append", f"{_KERNEL_ARGUMENTS}{rate} {drives}"),
        *("-chardev", f"file,id=console,path={parts.folder / 'console.log'}", "-serial", "chardev:console"),
        *(word for name, file in parts.inputs.items() for word in _drive(name, file, "read-only=on")),
        *_drive("scratch", parts.scratch, "cache.no-flush=on,discard=unmap"),
        *("-device", "virtio-serial-device"),
        *_port(1, "output", f"socket,fd={output_fd}"),
        *_port(2, "result", f"file,path={parts.folder / 'result.json'}"),
        *_port(3, "logs", f"file,path={parts.folder / 'logs.tar'}"),
        *("-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-device,rng=rng"),
    ]


def _drive(name: str, file: Path, flags: str) -> list[str]:
    node = f"driver=raw,node-name={name},{flags},file.driver=file,file.filename={file},file.locking=off"
    return ["-blockdev", node, "-device", f"virtio-blk-device,drive={name}"]


def _port(number: int, name: str, backend: str) -> list[str]:
    kind, _, options = backend.partition(",")
    chardev = f"{kind},id={name},{options}"
    return ["-chardev", chardev, "-device", f"virtserialport,nr={number},chardev={name},name={name}"]
