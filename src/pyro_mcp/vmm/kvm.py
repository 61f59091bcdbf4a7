"""Whether KVM runs a guest here, proved by running one.

A /dev/kvm that opens, and on which virtual machines can even be made, may still not run a stock kernel (emulated or
partial KVM, as on many cloud machines), and CPU flags say nothing about that. So Firecracker boots the bundle's kernel
with the agent and nothing else, and the agent's first words on the console are the proof. It has no root file system to
go on with, so those words are its complaint about that; the machine is then thrown away.
"""

import asyncio
import json
import os
import subprocess
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from pyro_mcp.process import Process, spawn
from pyro_mcp.vmm import confine

DEVICE = Path("/dev/kvm")
# Real hardware takes a quarter of a second; a host that is itself emulated takes up to six.
PROOF_SECONDS = 8.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MEMORY_FILE = "kvm.json"
_MEM_MIB = 256
# i8042 and pci are not there, and looking for them takes time; `reboot=k` makes a guest that fails end Firecracker.
_KERNEL_ARGUMENTS = (
    "console=ttyS0 quiet reboot=k panic=-1 pci=off tsc=reliable cryptomgr.notests "
    "i8042.noaux i8042.nomux i8042.nopnp i8042.dumbkbd"
)
_AGENT_WORDS = b"pyro-agent: "  # how the agent begins every line that it prints, see guest-agent/src/console.rs
_CONSOLE_BYTES = 16 * 1024


class KvmState(StrEnum):
    """What became of the proof."""

    WORKS = "works"
    ABSENT = "absent"  # there is no KVM device
    FORBIDDEN = "forbidden"  # this user may not open it
    NO_GUEST = "no_guest"  # it opens, but a guest does not run


@dataclass(frozen=True)
class KvmVerdict:
    """The outcome: `detail` is what was seen, a sentence without its full stop, and `duration_ms` what it took."""

    state: KvmState
    detail: str
    duration_ms: int


async def prove(
    firecracker: Path,
    kernel: Path,
    initramfs: Path,
    *,
    device: Path = DEVICE,
    timeout_seconds: float = PROOF_SECONDS,
) -> KvmVerdict:
    """Boot a guest under Firecracker; it is gone when this returns. Takes at most `timeout_seconds` and a moment."""
    began = time.monotonic()
    state, detail = _try_open(device)
    if state is KvmState.WORKS:
        state, detail = await _boot(firecracker, kernel, initramfs, timeout_seconds)
    return KvmVerdict(state, detail, round((time.monotonic() - began) * 1000))


def remember(home: Path, bundle_digest: str, verdict: KvmVerdict) -> None:
    """Keep a verdict for as long as this host runs with this bundle.

    What the device file alone told is not kept: permissions can change at any time, and looking again costs nothing.
    """
    if verdict.state not in (KvmState.WORKS, KvmState.NO_GUEST):
        return
    record = {"boot_id": _boot_id(), "bundle": bundle_digest, "verdict": asdict(verdict)}
    temporary = home / f".{_MEMORY_FILE}.{os.getpid()}.tmp"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.write_text(json.dumps(record))
        temporary.replace(home / _MEMORY_FILE)
    except OSError:
        # A home that cannot be written costs another proof next time, nothing else.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def remembered(home: Path, bundle_digest: str) -> KvmVerdict | None:
    """The verdict kept since this host started and for this bundle, if there is one."""
    try:
        record = json.loads((home / _MEMORY_FILE).read_text())
        if (record["boot_id"], record["bundle"]) != (_boot_id(), bundle_digest):
            return None
        verdict = record["verdict"]
        return KvmVerdict(KvmState(verdict["state"]), str(verdict["detail"]), int(verdict["duration_ms"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip()


def _try_open(device: Path) -> tuple[KvmState, str]:
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return KvmState.ABSENT, f"there is no {device}"
    except PermissionError as error:
        return KvmState.FORBIDDEN, f"{device} may not be opened ({os.strerror(error.errno or 0)})"
    except OSError as error:
        return KvmState.ABSENT, f"{device} is there, but nothing is behind it ({error.strerror})"
    return KvmState.WORKS, f"{device} opens"


async def _boot(firecracker: Path, kernel: Path, initramfs: Path, timeout_seconds: float) -> tuple[KvmState, str]:
    config = _configuration(kernel, initramfs)
    reader, writer = os.pipe()
    try:
        process = _spawn(firecracker, config, writer)
    except OSError as error:
        os.close(reader)
        return KvmState.NO_GUEST, f"KVM opens, but Firecracker could not be started ({error.strerror})"
    finally:
        os.close(config)
        os.close(writer)
    console = _Console(reader)
    try:
        async with asyncio.timeout(timeout_seconds):
            spoke = await console.agent_speaks()
    except TimeoutError:
        return KvmState.NO_GUEST, f"KVM opens but runs no guest (waited {timeout_seconds:g} s): {console.last_words()}"
    finally:
        await asyncio.shield(_end(process, console))
    if spoke:
        return KvmState.WORKS, "a guest ran"
    return KvmState.NO_GUEST, f"KVM opens but runs no guest: Firecracker ended; {console.last_words()}"


def _spawn(firecracker: Path, config: int, output: int) -> Process:
    return spawn(
        [str(firecracker), "--no-api", "--level", "Off", "--config-file", f"/proc/self/fd/{config}"],
        env={},  # nothing of the user's
        cwd=Path("/"),
        pass_fds=[config],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        limits=confine.limits(mem_mib=_MEM_MIB, disk_bytes=1 << 20),
    )


def _configuration(kernel: Path, initramfs: Path) -> int:
    """Firecracker's configuration as a file without a name; it wants one file with all in it."""
    content = {
        "boot-source": {
            "kernel_image_path": str(kernel),
            "initrd_path": str(initramfs),
            "boot_args": _KERNEL_ARGUMENTS,
        },
        "drives": [],
        "machine-config": {"vcpu_count": 1, "mem_size_mib": _MEM_MIB},
    }
    fd = os.memfd_create("firecracker.json")
    os.write(fd, json.dumps(content).encode())
    return fd


async def _end(process: Process, console: "_Console") -> None:
    await process.stop(grace_seconds=0)
    console.close()


class _Console:
    """Reads what Firecracker and its guest print, and keeps the last of it; owns the descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._data = bytearray()
        self._spoke = asyncio.get_running_loop().create_future()
        os.set_blocking(fd, False)
        asyncio.get_running_loop().add_reader(fd, self._read)

    async def agent_speaks(self) -> bool:
        """Wait until the agent prints something (True) or nobody can print any more (False)."""
        return bool(await self._spoke)

    def last_words(self) -> str:
        """What was printed last, as part of a sentence."""
        lines = [line.strip() for line in self._data.decode(errors="replace").splitlines() if line.strip()]
        return f"its last words were {lines[-1][:200]!r}" if lines else "it printed nothing"

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)

    def _read(self) -> None:
        with suppress(BlockingIOError):
            chunk = os.read(self._fd, 65536)
            self._data += chunk
            del self._data[:-_CONSOLE_BYTES]
            spoke = _AGENT_WORDS in self._data
            if (spoke or not chunk) and not self._spoke.done():
                self._spoke.set_result(spoke)
            if not chunk:
                asyncio.get_running_loop().remove_reader(self._fd)
