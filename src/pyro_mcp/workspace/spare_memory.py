"""How much memory of the host is free for more machines."""

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")


def spare_mib() -> int:
    """What programs can still have without swapping, in MiB; source: MemAvailable of proc_meminfo(5)."""
    for line in _MEMINFO.read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) >> 10
    return 0
