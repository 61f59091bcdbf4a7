"""Whether this host has the memory that a machine is to have: not now, but at all."""

from pathlib import Path

from pyro_mcp.errors import HostUnfit
from pyro_mcp.workspace.spare_memory import amount

_MEMINFO = Path("/proc/meminfo")


def check(mem_mib: int) -> None:
    """Refuse a machine that could never have its memory, with a code of its own: its VMM would end with other words.

    A control group with less is no reason: the kernel gives a machine what it uses, and few use all that they have.

    Raises `HostUnfit` (`not_enough_memory`). Sources: proc_meminfo(5), and the kernel's
    Documentation/mm/overcommit-accounting.rst for what it refuses.
    """
    total, swap = (amount(_MEMINFO, name) >> 10 for name in ("MemTotal:", "SwapTotal:"))
    if total and mem_mib > total + swap:  # a kernel may not tell
        swapped = f" and {swap} MiB of swap" if swap else ""
        raise HostUnfit(
            "not_enough_memory",
            f"a machine with {mem_mib} MiB of memory does not fit: this host has {total} MiB{swapped}",
            "use a smaller --mem-mib; a workspace keeps the one that it was made with",
        )
