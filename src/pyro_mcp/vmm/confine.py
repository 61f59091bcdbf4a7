"""What a VMM process may see and do on the host.

Emulation is no security boundary (QEMU's project says so of TCG), so a VMM is treated as if the guest had taken it
over: it runs in namespaces of its own with no network, no other process, no capability, and of the host's files only
programs and libraries and the very inputs that it was given. Bubblewrap does that for root and for users alike.
"""

import resource
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from pyro_mcp.process import run

BWRAP = "bwrap"
# Programs and libraries, read-only, as a merged-/usr system lays them out.
_SYSTEM = (
    *("--ro-bind", "/usr", "/usr"),
    *("--symlink", "usr/bin", "/bin"),
    *("--symlink", "usr/sbin", "/sbin"),
    *("--symlink", "usr/lib", "/lib"),
    *("--symlink", "usr/lib64", "/lib64"),
    *("--proc", "/proc"),
    *("--dev", "/dev"),
    *("--tmpfs", "/tmp"),  # noqa: S108  (inside the sandbox)
)
_RULES = ("--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv")

# A VMM needs few descriptors and must never leave the memory of a guest in a core file.
LIMITS: Mapping[int, int] = {resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: 256}


def confined(argv: Sequence[str], readable: Sequence[Path]) -> list[str]:
    """The command line that runs `argv` confined, with `readable` files visible under their own names.

    Open descriptors are passed on as they are.
    """
    inputs = [word for path in readable for word in ("--ro-bind", str(path), str(path))]
    return [BWRAP, *_RULES, *_SYSTEM, *inputs, "--", *argv]


async def why_unconfinable() -> str | None:
    """Why this host cannot confine a VMM, or None if it can; proved by running a program confined (about 10 ms)."""
    if shutil.which(BWRAP) is None:
        return "bubblewrap is not installed"
    outcome = await run(confined(["/usr/bin/true"], []))
    if outcome.exit_code != 0:
        return outcome.stderr.decode(errors="replace").strip() or f"bwrap ended with {outcome.exit_code}"
    return None
