"""What a machine takes of its host's memory: the proportional set size of its VMM with the sandbox around it.

Memory that several processes map, such as that of a template, counts for each in part, so the sizes of all machines can
be added up. Source: proc_pid_smaps(5), the kernel's Documentation/filesystems/proc.rst.
"""

from pathlib import Path

from pyro_mcp.process_watch import Detached
from pyro_mcp.vmm import family


def bytes_of(process: Detached) -> int | None:
    """The bytes that a process and all below it take, or None where it has ended or this host does not tell.

    Blocks for some milliseconds: the kernel goes through all memory that they have. May be called in any thread.
    """
    return family.total(process, _size)


def _size(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    raise OSError(f"the kernel does not tell the size of process {pid}")
