"""The fall-back VMM: QEMU, by a guest that answered."""

import re
import shutil
from typing import NamedTuple

from pyro_mcp import process
from pyro_mcp.doctor import kvm
from pyro_mcp.doctor.mending import apt_install
from pyro_mcp.doctor.report import Row, failed, failed_with, passed
from pyro_mcp.doctor.shared import Shared
from pyro_mcp.errors import PyroError
from pyro_mcp.vmm.qemu import PROGRAM
from pyro_mcp.workspace.boot import boot_guest
from pyro_mcp.workspace.host import Host

NAME = "qemu"
# Four times what a slow machine takes; and where QEMU is missing, longer than it takes to know whether KVM works.
SECONDS = kvm.SECONDS + 0.5
_MEM_MIB = 256
_VERSION = re.compile(r"version (\d+(?:\.\d+)+)")


class Answer(NamedTuple):
    boot_ms: int
    agent_version: str


async def examine(shared: Shared) -> Row:
    program = shutil.which(PROGRAM)
    if program is None:
        return await _missing(shared)
    try:
        version = await _version(program)
        answer = await _boot(await shared.host_without_kvm())
    except PyroError as error:
        return failed_with(NAME, error)
    return passed(
        NAME,
        f"QEMU {version} booted a guest that answered after {answer.boot_ms} ms (agent {answer.agent_version});"
        " it emulates the processor, so computing takes several times longer than on this machine itself",
    )


async def _missing(shared: Shared) -> Row:
    """No failure where Firecracker runs guests, unless QEMU is what was asked for."""
    found, mend = f"{PROGRAM} is not installed", apt_install(["qemu-system-x86"])
    if shared.settings.vmm != "qemu" and await shared.kvm_works():
        return passed(NAME, f"{found}, and not needed: KVM works")
    return failed(NAME, found, mend)


async def _version(program: str) -> str:
    outcome = await process.run([program, "--version"])
    found = _VERSION.search(outcome.stdout.decode(errors="replace"))
    return found[1] if found else "of unknown version"


async def _boot(host: Host) -> Answer:
    # A guest that is only to answer needs nothing of its image but that the kernel mounts it. The bundle has one: of
    # modules. So a host can be proved before any environment is installed, and without a file that could stay behind.
    async with boot_guest(host, host.bundle.modules, vcpu_count=1, mem_mib=_MEM_MIB) as guest:
        await guest.client.ping()
        return Answer(guest.boot_ms, guest.client.hello.agent_version)
