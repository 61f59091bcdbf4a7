"""How much memory of the host is free for more machines."""

from pathlib import Path

from pyro_mcp.vmm import cgroup

_MEMINFO = Path("/proc/meminfo")


def spare_mib() -> int:
    """What programs can still have without swapping, and within the limits of the control groups that we are in: MiB.

    Sources: MemAvailable of proc_meminfo(5), and the kernel's Documentation/admin-guide/cgroup-v2.rst.
    """
    within = [left for group in cgroup.own_groups() if (left := _left_in(group)) is not None]
    return max(0, min([_available(), *within])) >> 20


def _available() -> int:
    """Bytes of the whole host."""
    for line in _MEMINFO.read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) << 10
    return 0


def _left_in(group: Path) -> int | None:
    """Bytes that may still be used in a control group, or None if it has no limit."""
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        return limit - used + _cached(group)
    except (OSError, ValueError):  # the outermost has no such files, and "max" is no limit
        return None


def _cached(group: Path) -> int:
    """Bytes of files that nobody has read lately, which the kernel drops before anything else."""
    for line in (group / "memory.stat").read_text().splitlines():
        name, _, value = line.partition(" ")
        if name == "inactive_file":
            return int(value)
    return 0
