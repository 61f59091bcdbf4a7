"""How much memory of the host is free for more machines."""

from pathlib import Path

from pyro_mcp.vmm import cgroup

_MEMINFO = Path("/proc/meminfo")


def spare_mib() -> int:
    """What programs can still have without swapping, and within the limits of the control groups that we are in: MiB.

    Sources: MemAvailable of proc_meminfo(5), and the kernel's Documentation/admin-guide/cgroup-v2.rst.
    """
    within = [left for group in cgroup.own_groups() if (left := _left_in(group)) is not None]
    available = amount(_MEMINFO, "MemAvailable:") << 10
    return max(0, min([available, *within])) >> 20


def _left_in(group: Path) -> int | None:
    """Bytes that may still be used in a control group, or None if it has no limit."""
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        # Files that nobody has read lately are what the kernel drops before anything else.
        return limit - used + amount(group / "memory.stat", "inactive_file")
    except (OSError, ValueError):  # the outermost has no such files, and "max" is no limit
        return None


def amount(file: Path, name: str) -> int:
    """The number behind a name, in the file's own unit; 0 if it is not there."""
    for line in file.read_text().splitlines():
        words = line.split()
        if words[:1] == [name]:
            return int(words[1])
    return 0
