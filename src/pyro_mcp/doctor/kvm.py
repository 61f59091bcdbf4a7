"""KVM, by a guest that ran on it.

Missing KVM is never more than a warning: guests run under QEMU's emulation then, which has a check of its own.
"""

import getpass
import grp
import os
import stat
from pathlib import Path

from pyro_mcp.doctor.mending import as_root
from pyro_mcp.doctor.report import Row, failed, passed, warning
from pyro_mcp.doctor.shared import Shared
from pyro_mcp.errors import HostUnfit
from pyro_mcp.vmm import kvm
from pyro_mcp.vmm.kvm import KvmState, KvmVerdict
from pyro_mcp.vmm.kvm_device import DEVICE

NAME = "kvm"
# The proof itself, and ending a VMM that spins in the kernel.
SECONDS = kvm.PROOF_SECONDS + 6.0
_CPU_INFO = Path("/proc/cpuinfo")
_ELSEWHERE = (
    "nothing, as long as QEMU works (see below); for speed, move to bare metal or to a machine whose hypervisor"
    " offers nested virtualisation"
)


async def examine(shared: Shared) -> Row:
    """Prove KVM afresh, whatever was found earlier."""
    try:
        verdict = await shared.kvm.get()
    except HostUnfit as error:
        return warning(NAME, "not tried, because the runtime bundle cannot be used", error.hint or _ELSEWHERE)
    row = row_for(verdict, processor_flags(_CPU_INFO), DEVICE)
    if shared.settings.vmm == "firecracker" and verdict.state is not KvmState.WORKS:
        mend = "unset PYRO_VMM" if verdict.state is KvmState.NO_GUEST or row.mend is None else row.mend
        return failed(NAME, f"{row.found}; and PYRO_VMM=firecracker asks for it", mend)
    return row


def row_for(verdict: KvmVerdict, flags: frozenset[str], device: Path) -> Row:
    match verdict.state:
        case KvmState.WORKS:
            return passed(NAME, f"Firecracker booted a guest in {verdict.duration_ms} ms")
        case KvmState.ABSENT:
            return warning(NAME, verdict.detail, _mend_absent(flags))
        case KvmState.FORBIDDEN:
            return warning(NAME, verdict.detail, mend_forbidden(device))
        case KvmState.UNTRIED:
            return warning(NAME, verdict.detail, "mend what it says, and what the row about isolation says")
        case KvmState.NO_GUEST:
            bare = "" if flags & {"vmx", "svm"} else ", and the processor shows neither vmx nor svm"
            return warning(NAME, verdict.detail + bare, _ELSEWHERE)


def processor_flags(cpuinfo: Path) -> frozenset[str]:
    """The flags of the first processor; source: proc_cpuinfo(5)."""
    for line in cpuinfo.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def _mend_absent(flags: frozenset[str]) -> str:
    if "vmx" in flags:
        return as_root("modprobe kvm_intel")
    if "svm" in flags:
        return as_root("modprobe kvm_amd")
    return (
        "turn on virtualisation (VT-x, AMD-V) in this machine's firmware, or nested virtualisation in the hypervisor"
        " that runs it"
    )


def mend_forbidden(device: Path) -> str:
    """What lets this user open the device, which depends on who may."""
    if os.geteuid() == 0:
        return f"hand the device to this container: docker run --device {device} ..."
    user = _user()
    status = device.stat()
    members = grp.getgrgid(status.st_gid)
    if status.st_gid == 0 or not status.st_mode & stat.S_IRGRP or not status.st_mode & stat.S_IWGRP:
        # No group could help: the file is for root alone. This lasts until the next boot.
        return as_root(f"chown {user} {device}")
    if user in members.gr_mem:
        return f"log out and in again: {user} is in the group {members.gr_name}, but this session is older than that"
    return f"{as_root(f'usermod -aG {members.gr_name} {user}')}, then log out and in again"


def _user() -> str:
    """This user's name, or number where it has no name, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
