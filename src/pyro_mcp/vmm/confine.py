"""What a VMM can see and do on the host.

Emulation is no security boundary (QEMU's project says so of TCG), and Firecracker's own advice is a second barrier
around it. So a VMM is treated as if the guest had taken it over: it runs in namespaces of its own with no network, no
other process, no capability, and of the host's files only programs and libraries and the very inputs that it was given.
Bubblewrap does that for root and for users alike.
"""

import os
import resource
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pyro_mcp.process import run
from pyro_mcp.start_gate import GATE
from pyro_mcp.vmm.kvm_device import KvmAccess

BWRAP = "bwrap"
INPUTS = Path("/inputs")
# A VMM's folder of its own, which is also its working directory.
FOLDER = Path("/vm")
# Programs and libraries, read-only, as a merged-/usr system lays them out.
_SYSTEM = (
    *("--ro-bind", "/usr", "/usr"),
    *("--symlink", "usr/bin", "/bin"),
    *("--symlink", "usr/sbin", "/sbin"),
    *("--symlink", "usr/lib", "/lib"),
    *("--symlink", "usr/lib64", "/lib64"),
    *("--proc", "/proc"),
    *("--dev", "/dev"),
)
_RULES = ("--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL")
_NAMESPACES = ("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try")
# Root without capabilities still owns the files of root, the switches under /proc/sys too. So what root starts becomes
# somebody else inside the sandbox, for which the sandbox has the capabilities for just as long as that takes.
_NOBODY = 65534
_TO_BECOME_ANOTHER = ("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP")
# The sandbox's first process asks to die with the outermost one, and then waits for its children; it never sleeps (S)
# before. Until then nothing in here goes on: whoever kills the outermost process ends all of it.
_ONCE_BOUND = 'while read -r _ _ state _ </proc/1/stat; [ "$state" != S ]; do :; done'

_ADDRESS_SPACE_BESIDE_GUEST = 4 << 30  # bytes: programs, libraries, stacks and translated code


@dataclass(frozen=True)
class Sandbox:
    """What is let into a sandbox besides programs and libraries.

    `inputs` maps names inside, below `INPUTS`, to files of the host, which are seen through read-only mounts. `folder`
    is the one that may be written, at `FOLDER` inside. `kvm` lets the program use KVM. `user` is the id that a program
    started by root gets; that user has to own the folder.
    """

    inputs: Mapping[Path, Path] = field(default_factory=dict)
    folder: Path | None = None
    kvm: KvmAccess | None = None
    user: int | None = None


def limits(*, mem_mib: int, file_bytes: int) -> Mapping[int, int]:
    """The resource limits of a VMM for a guest of that size: little more than it needs.

    It writes no file beyond that size, and never leaves the memory of a guest in a core file.
    """
    return {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_AS: (mem_mib << 20) + _ADDRESS_SPACE_BESIDE_GUEST,
    }


def confined(argv: Sequence[str], sandbox: Sandbox, *, gated: bool = False) -> list[str]:
    """The command line that runs `argv` confined, in the sandbox's folder; with `gated` behind a gate (`StartGate`).

    Open descriptors are passed on as they are; give one only for a file that may be written: whoever owns a file can
    make a descriptor for reading into one for writing.
    """
    shown = [word for inside, outside in sandbox.inputs.items() for word in ("--ro-bind", str(outside), str(inside))]
    rest = [*_SYSTEM, "--perms", "0755", "--dir", str(INPUTS), *shown]
    if sandbox.kvm is not None:
        rest += ("--dev-bind", str(sandbox.kvm.node), str(sandbox.kvm.device))
    if sandbox.folder is not None:
        rest += ("--bind", str(sandbox.folder), str(FOLDER))
    rest += ("--remount-ro", "/", "--")
    steps = _steps(sandbox, gated=gated)
    if os.geteuid() == 0:
        return [BWRAP, *_RULES, *_TO_BECOME_ANOTHER, *_NAMESPACES, *rest, *_becoming_another(sandbox), *steps, *argv]
    return [BWRAP, *_RULES, "--unshare-user", *_NAMESPACES, *rest, *steps, *argv]


async def why_unconfinable() -> str | None:
    """Why this host cannot confine a VMM, or None if it can; proved by running a program confined (about 10 ms)."""
    if shutil.which(BWRAP) is None:
        return "bubblewrap is not installed"
    outcome = await run(confined(["/usr/bin/true"], Sandbox()))
    if outcome.exit_code != 0:
        return outcome.stderr.decode(errors="replace").strip() or f"bwrap ended with {outcome.exit_code}"
    return None


def _steps(sandbox: Sandbox, *, gated: bool) -> Sequence[str]:
    """What the last program before the confined one does: one shell, because each program takes its time to start."""
    steps = [_ONCE_BOUND]
    if sandbox.folder is not None:
        steps.append(f"cd {FOLDER}")  # only its owner may enter it, which is what we are by now
    if gated:
        steps.append(GATE)
    return ("/bin/sh", "-c", " && ".join([*steps, 'exec "$@"']), "sh")


def _becoming_another(sandbox: Sandbox) -> Sequence[str]:
    user = str(_NOBODY if sandbox.user is None else sandbox.user)
    group = None if sandbox.kvm is None else sandbox.kvm.group
    return (
        *("setpriv", "--reuid", user, "--regid", user),
        *(("--clear-groups",) if group is None else ("--groups", str(group))),
        *("--inh-caps", "-all", "--bounding-set", "-all", "--"),
    )
