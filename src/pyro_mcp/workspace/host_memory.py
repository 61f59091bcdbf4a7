"""Whether this host has the memory that a machine is to have: not now, but at all."""

from pathlib import Path

from pyro_mcp.errors import HostUnfit

_MEMINFO = Path("/proc/meminfo")


def check(mem_mib: int) -> None:
    """Refuse a machine that could never have its memory, with a code of its own: its VMM would end with other words.

    A control group with less is no reason: the kernel gives a machine what it uses, and few use all that they have.

    Raises `HostUnfit` (`not_enough_memory`). Sources: proc_meminfo(5), and the kernel's
    Documentation/mm/overcommit-accounting.rst for what it refuses.
    """
    total, swap = _amount_mib("MemTotal:"), _amount_mib("SwapTotal:") or 0
    if total is not None and mem_mib > total + swap:
        swapped = f" and {swap} MiB of swap" if swap else ""
        raise HostUnfit(
            "not_enough_memory",
            f"a machine with {mem_mib} MiB of memory does not fit: this host has {total} MiB{swapped}",
            "use a smaller --mem-mib; a workspace keeps the one that it was made with",
        )


def _amount_mib(name: str) -> int | None:
    """None from a kernel that does not tell."""
    for line in _MEMINFO.read_text().splitlines():
        words = line.split()
        if words[:1] == [name]:
            return int(words[1]) >> 10
    return None
