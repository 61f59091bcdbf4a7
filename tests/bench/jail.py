"""What it costs to shut Firecracker in, until its API answers: in its own jailer, and in the sandbox that we use.

Root only, as the jailer is; no guest is started, so KVM need not work. Interleaved, as everything here.
"""

import asyncio
import itertools
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyro_mcp.process import spawn
from pyro_mcp.runtime.bundle import RuntimeBundle
from pyro_mcp.unix_path import connect_to
from pyro_mcp.vmm import cgroup, firecracker_api, user_ids, vmm_process
from pyro_mcp.vmm.firecracker import FirecrackerDriver
from pyro_mcp.vmm.machine import MachineSpec
from tests.bench.report import Ratio

_ROUNDS = 21
_MEM_MIB = 1024
_DISK_BYTES = 64 << 20
_LOOK_AGAIN_SECONDS = 0.0005
_ASKED = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
Start = Callable[[Path], AbstractAsyncContextManager[Path]]
"""Starts Firecracker with a folder for whatever it needs; yields the folder with its API's socket."""


async def sandbox_against_jailer(bundle: RuntimeBundle, image: Path, folder: Path) -> list[Ratio]:
    """Seconds from the first step for a machine, its inputs laid out for it included, to its VMM's first answer."""
    with _spec(bundle, image, folder) as spec:
        starts = _Starts(bundle, spec, folder)
        numbers = itertools.count()
        rounds = []
        for _ in range(1 + _ROUNDS):
            rounds.append([await _seconds(start, folder / str(next(numbers))) for start in starts.all()])
    bare, jailer, sandbox = (tuple(column) for column in zip(*rounds[1:], strict=True))  # the first fills caches
    return [
        Ratio("Firecracker's API in our sandbox / bare", sandbox, bare, None),
        Ratio("Firecracker's API in its jailer / bare", jailer, bare, None),
        Ratio("Firecracker's API in our sandbox / in its jailer", sandbox, jailer, None),
    ]


@dataclass(frozen=True)
class _Starts:
    """The three ways to start it."""

    bundle: RuntimeBundle
    spec: MachineSpec
    folder: Path

    def all(self) -> Sequence[Start]:
        return self.bare, self.in_jailer, self.in_sandbox

    @asynccontextmanager
    async def bare(self, folder: Path) -> AsyncIterator[Path]:
        """Alone, as whoever runs this."""
        os.mkdir(folder)
        async with _running([str(self.bundle.firecracker), "--api-sock", firecracker_api.SOCKET], folder):
            yield folder

    @asynccontextmanager
    async def in_jailer(self, folder: Path) -> AsyncIterator[Path]:
        """With a user, a root, a process namespace and limits of its own, and its inputs as hard links."""
        user, base = str(user_ids.unused()), folder / "base"
        root = base / "firecracker" / folder.name / "root"
        root.mkdir(parents=True)
        for path in (self.spec.kernel, self.spec.initramfs, self.spec.modules, self.spec.image):
            os.link(path, root / path.name)
        words = [
            *(str(self.bundle.jailer), "--id", folder.name, "--exec-file", str(self.bundle.firecracker)),
            *("--uid", user, "--gid", user, "--chroot-base-dir", str(base), "--new-pid-ns"),
            *("--resource-limit", "no-file=256", "--resource-limit", f"fsize={_MEM_MIB << 20}"),
            *self._limits(),
            *("--", "--api-sock", firecracker_api.SOCKET),
        ]
        try:
            async with _running(words, folder, pid_file=root / "firecracker.pid"):
                yield root
        finally:
            cgroup.remove(folder.name)

    @asynccontextmanager
    async def in_sandbox(self, folder: Path) -> AsyncIterator[Path]:
        """As `pyro` starts it."""
        os.mkdir(folder, mode=0o700)
        program = FirecrackerDriver(self.bundle.firecracker, self.folder)._program(self.spec, folder, self.spec.disk_fd)
        async with vmm_process.running(program):
            yield folder

    @staticmethod
    def _limits() -> Sequence[str]:
        """The same two limits of a control group as ours, where this host lets one make groups."""
        groups = cgroup.find()
        if groups is None:
            return ()
        parent = groups.base.relative_to("/sys/fs/cgroup")
        limits = (f"memory.max={(_MEM_MIB << 20) + (1536 << 20)}", "pids.max=64")
        return (
            *("--cgroup-version", "2", "--parent-cgroup", str(parent)),
            *(word for limit in limits for word in ("--cgroup", limit)),
        )


async def _seconds(start: Start, folder: Path) -> float:
    began = time.perf_counter()
    try:
        async with start(folder) as api:
            await _answer(api / firecracker_api.SOCKET)
            return time.perf_counter() - began
    finally:
        shutil.rmtree(folder)


async def _answer(socket: Path) -> None:
    """Wait for the first answer to a request."""
    async with asyncio.timeout(30):
        while True:
            try:
                reader, writer = await asyncio.open_connection(sock=await connect_to(socket))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        writer.write(_ASKED)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.transport.abort()


@asynccontextmanager
async def _running(words: Sequence[str], folder: Path, pid_file: Path | None = None) -> AsyncIterator[None]:
    process = spawn([*words, "--level", "Error"], cwd=folder)
    try:
        yield
    finally:
        if pid_file is not None:
            _kill(pid_file)  # the jailer's new process namespace makes an orphan of it
        await process.stop(grace_seconds=0)


def _kill(pid_file: Path) -> None:
    os.kill(int(pid_file.read_text()), signal.SIGKILL)


@contextmanager
def _spec(bundle: RuntimeBundle, image: Path, folder: Path) -> Iterator[MachineSpec]:
    """A machine whose inputs are on the file system of `folder`, because the jailer wants links."""
    inputs = folder / "inputs"
    inputs.mkdir()
    kernel, initramfs, modules, root = (
        Path(shutil.copy(path, inputs)) for path in (bundle.kernel, bundle.initramfs, bundle.modules, image)
    )
    disk = os.open(folder, os.O_TMPFILE | os.O_RDWR)
    try:
        os.ftruncate(disk, _DISK_BYTES)
        yield MachineSpec(kernel, initramfs, modules, root, disk, 1, _MEM_MIB)
    finally:
        os.close(disk)
