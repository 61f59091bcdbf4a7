"""Whether KVM runs a guest here, proved by running one.

A /dev/kvm that opens, and on which virtual machines can even be made, may still not run a stock kernel (emulated or
partial KVM, as on many cloud machines), and CPU flags say nothing about that. So Firecracker boots the bundle's kernel
with the agent and nothing else, and the agent's first words on the console are the proof. It has no root file system to
go on with, so those words are its complaint about that; the machine is then thrown away.
"""

import asyncio
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pyro_mcp.process import Tail
from pyro_mcp.vmm import cgroup, confine, vmm_process
from pyro_mcp.vmm.firecracker_config import KERNEL_ARGUMENTS, configuration_file
from pyro_mcp.vmm.firecracker_sandbox import PROGRAM, sandbox_for
from pyro_mcp.vmm.kvm_device import DEVICE
from pyro_mcp.vmm.own_folder import own_folder

# Real hardware takes a quarter of a second; a host that is itself emulated takes up to six.
PROOF_SECONDS = 8.0
LOADED_SECONDS = 60.0  # where a guest has run before: this host is more likely to be busy than to have lost KVM
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MEMORY_FILE = "kvm.json"
_MEM_MIB = 256
_KERNEL_ARGUMENTS = " ".join(("console=ttyS0 quiet", *KERNEL_ARGUMENTS))
_AGENT_WORDS = b"pyro-agent: "  # how the agent begins every line that it prints, see guest-agent/src/console.rs
# How whoever ends before the VMM has started begins its line.
_SANDBOX_WORDS = (b"bwrap: ", b"sh: ", b"setpriv: ", b"gate: ")
# The names of files inside the sandbox.
_KERNEL = confine.INPUTS / "kernel"
_INITRAMFS = confine.INPUTS / "initramfs"


class KvmState(StrEnum):
    """What became of the proof."""

    WORKS = "works"
    ABSENT = "absent"  # there is no KVM device
    FORBIDDEN = "forbidden"  # this user may not open it
    NO_GUEST = "no_guest"  # it opens, but a guest does not run
    UNTRIED = "untried"  # it opens, but no VMM could be started, which says nothing of guests


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
    run_dir: Path,
    *,
    confined: bool = True,
    device: Path = DEVICE,
    timeout_seconds: float = PROOF_SECONDS,
) -> KvmVerdict:
    """Boot a guest under Firecracker, shut in like any other, with a folder below `run_dir`.

    All of it is gone when this returns. Takes at most `timeout_seconds` and a moment.
    """
    began = time.monotonic()
    state, detail = try_open(device)
    if state is KvmState.WORKS:
        state, detail = await _boot(firecracker, kernel, initramfs, run_dir, timeout_seconds, confined=confined)
    return KvmVerdict(state, detail, round((time.monotonic() - began) * 1000))


def remember(folder: Path, bundle_digest: str, verdict: KvmVerdict) -> None:
    """Keep a verdict for as long as this host runs, with this bundle; other bundles have others.

    What the device file alone told is not kept: permissions can change at any time, and looking again costs nothing.
    """
    if verdict.state not in (KvmState.WORKS, KvmState.NO_GUEST):
        return
    record = {"boot_id": _boot_id(), "verdicts": {**_verdicts(folder), bundle_digest: asdict(verdict)}}
    temporary = folder / f".{_MEMORY_FILE}.{os.getpid()}.tmp"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.write_text(json.dumps(record))
        temporary.replace(folder / _MEMORY_FILE)
    except OSError:
        # A folder that cannot be written costs another proof next time, nothing else.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def remembered(folder: Path, bundle_digest: str) -> KvmVerdict | None:
    """The verdict kept since this host started and for this bundle, if there is one."""
    try:
        verdict = _verdicts(folder)[bundle_digest]
        return KvmVerdict(KvmState(verdict["state"]), str(verdict["detail"]), int(verdict["duration_ms"]))
    except (ValueError, KeyError, TypeError):
        return None


def _verdicts(folder: Path) -> dict[str, Any]:
    """What is kept since this host started, by bundle; it is whatever somebody wrote."""
    try:
        record = json.loads((folder / _MEMORY_FILE).read_text())
        return dict(record["verdicts"]) if record["boot_id"] == _boot_id() else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip()


def try_open(device: Path = DEVICE) -> tuple[KvmState, str]:
    """What the device's file alone tells, and in words; `WORKS` says no more than that it opens."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return KvmState.ABSENT, f"there is no {device}"
    except PermissionError as error:
        return KvmState.FORBIDDEN, f"{device} may not be opened ({os.strerror(error.errno or 0)})"
    except OSError as error:
        return KvmState.ABSENT, f"{device} is there, but nothing is behind it ({error.strerror})"
    return KvmState.WORKS, f"{device} opens"


async def _boot(
    firecracker: Path, kernel: Path, initramfs: Path, run_dir: Path, timeout_seconds: float, *, confined: bool
) -> tuple[KvmState, str]:
    try:
        with own_folder(run_dir) as folder, configuration_file(_configuration(kernel, initramfs, confined)) as config:
            program = _program(firecracker, kernel, initramfs, folder, config, confined=confined)
            async with vmm_process.running(program) as (_, printed):
                return await _verdict(printed, timeout_seconds)
    except OSError as error:
        return KvmState.UNTRIED, f"KVM opens, but Firecracker could not be started ({error.strerror})"


async def _verdict(printed: Tail, timeout_seconds: float) -> tuple[KvmState, str]:
    try:
        async with asyncio.timeout(timeout_seconds):
            if await printed.holds(_AGENT_WORDS):
                return KvmState.WORKS, "a guest ran"
        if printed.data.startswith(_SANDBOX_WORDS):
            return KvmState.UNTRIED, f"KVM opens, but Firecracker could not be started: {_last_words(printed.data)}"
        how = "Firecracker ended;"
    except TimeoutError:
        how = f"waited {timeout_seconds:g} s:"
    return KvmState.NO_GUEST, f"KVM opens but runs no guest: {how} {_last_words(printed.data)}"


def _program(
    firecracker: Path, kernel: Path, initramfs: Path, folder: Path, config: int, *, confined: bool
) -> vmm_process.Program:
    words = ["--no-api", "--level", "Off", "--config-file", f"/proc/self/fd/{config}"]
    limits = confine.limits(mem_mib=_MEM_MIB, file_bytes=1 << 20)
    group = cgroup.name_for(folder)
    if not confined:
        return vmm_process.Program([str(firecracker), *words], (config,), limits, None, group, _MEM_MIB, folder)
    sandbox = sandbox_for(firecracker, {_KERNEL: kernel, _INITRAMFS: initramfs}, folder)
    return vmm_process.Program([str(PROGRAM), *words], (config,), limits, sandbox, group, _MEM_MIB, folder)


def _configuration(kernel: Path, initramfs: Path, confined: bool) -> Mapping[str, object]:
    return {
        "boot-source": {
            "kernel_image_path": str(_KERNEL if confined else kernel),
            "initrd_path": str(_INITRAMFS if confined else initramfs),
            "boot_args": _KERNEL_ARGUMENTS,
        },
        "drives": [],
        "machine-config": {"vcpu_count": 1, "mem_size_mib": _MEM_MIB},
    }


def _last_words(printed: bytes) -> str:
    """What was printed last, as part of a sentence."""
    lines = [line.strip() for line in printed.decode(errors="replace").splitlines() if line.strip()]
    return f"its last words were {lines[-1][:200]!r}" if lines else "it printed nothing"
