"""Whether this host has the memory that a machine is to have: not now, but at all."""

from collections.abc import Iterator
from pathlib import Path

from pyro_mcp.errors import HostUnfit
from pyro_mcp.vmm import cgroup

_MEMINFO = Path("/proc/meminfo")


def check(mem_mib: int) -> None:
    """Refuse a machine that could never have its memory, with a code of its own: its VMM would end with other words.

    Raises `HostUnfit` (`not_enough_memory`). Sources: proc_meminfo(5), and the kernel's
    Documentation/admin-guide/cgroup-v2.rst.
    """
    total, swap = _amount_mib("MemTotal:"), _amount_mib("SwapTotal:")
    if total is None:
        return  # a kernel that does not tell
    limit = min(_limits_mib(), default=total)
    if mem_mib > min(total, limit) + (swap or 0):
        where = "this host" if total <= limit else "the control group that pyro runs in"
        swapped = f" and {swap} MiB of swap" if swap else ""
        raise HostUnfit(
            "not_enough_memory",
            f"a machine with {mem_mib} MiB of memory does not fit: {where} has {min(total, limit)} MiB{swapped}",
            "use a smaller --mem-mib; a workspace keeps the one that it was made with",
        )


def _limits_mib() -> Iterator[int]:
    """Of the control groups that VMMs are in as we are; one with a group of its own leaves those below that."""
    groups = cgroup.find()
    for group in cgroup.own_groups():
        if groups is None or groups.base.is_relative_to(group):
            try:
                yield int((group / "memory.max").read_text()) >> 20
            except (OSError, ValueError):  # the outermost has no such file, and "max" is no limit
                continue


def _amount_mib(name: str) -> int | None:
    for line in _MEMINFO.read_text().splitlines():
        words = line.split()
        if words[:1] == [name]:
            return int(words[1]) >> 10
    return None
