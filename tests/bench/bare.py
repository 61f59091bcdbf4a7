"""The yardstick: the same kernel, root and QEMU command line with a minimal init and nothing of ours around it.

The init is guest-agent/test-inits; `bare=` on the kernel's command line chooses what it does (see its source).
"""

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from pyro_mcp.images import store
from pyro_mcp.runtime.bundle import RuntimeBundle
from pyro_mcp.vmm import qemu, qemu_command, tsc
from pyro_mcp.vmm.machine import MachineSpec
from pyro_mcp.vmm.qemu_command import Wiring
from tests.support.newc import replace_member

BENCH_INIT = Path("build/cargo/x86_64-unknown-linux-gnu/release/pyro-bench-init")


@dataclass(frozen=True)
class BareMachine:
    """What is needed to run the yardstick's machine."""

    spec: MachineSpec
    program: str

    def command_line(self, mode: str, channel_fd: int) -> list[str]:
        argv = qemu_command.command_line(
            self.program, self.spec, Wiring(channel_fd), tsc_khz=tsc.host_khz(), console=False
        )
        at = argv.index("-append") + 1
        argv[at] += f" bare={mode}"
        return argv

    @contextlib.contextmanager
    def started(self, mode: str) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
        """A running machine and its channel; killed at the end of the block."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            descriptors = (self.spec.disk_fd, theirs.fileno())
            process = subprocess.Popen(
                self.command_line(mode, theirs.fileno()), pass_fds=descriptors, stdin=subprocess.DEVNULL
            )
            theirs.close()
            try:
                yield process, ours
            finally:
                process.kill()
                process.wait()


def build_initramfs(bundle: RuntimeBundle, folder: Path) -> Path:
    """The bundle's initramfs with the bare init in place of the agent."""
    path = folder / "bare.cpio"
    path.write_bytes(replace_member(bundle.initramfs.read_bytes(), "init", BENCH_INIT.read_bytes()))
    return path


@contextlib.asynccontextmanager
async def bare_machine(bundle: RuntimeBundle, images: store.Store, folder: Path) -> AsyncIterator[BareMachine]:
    """The yardstick over debian:12, with a blank disk that it does not touch."""
    program = shutil.which(qemu.PROGRAM)
    assert program is not None
    disk = os.open(folder / "disk", os.O_RDWR | os.O_CREAT)
    os.ftruncate(disk, 64 << 20)
    try:
        with await store.open_verified(images, "debian:12") as image:
            spec = MachineSpec(
                kernel=bundle.kernel,
                initramfs=build_initramfs(bundle, folder),
                modules=bundle.modules,
                image=image.path,
                disk_fd=disk,
                vcpu_count=1,
                mem_mib=1024,
            )
            yield BareMachine(spec, program)
    finally:
        os.close(disk)
