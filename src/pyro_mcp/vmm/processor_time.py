"""How much of the host's processors a machine asks for.

Source: the kernel's Documentation/scheduler/sched-stats.rst, on /proc/<pid>/schedstat.
"""

from pathlib import Path

from pyro_mcp.process_watch import Detached
from pyro_mcp.vmm import family


def wanted_seconds(process: Detached) -> float | None:
    """The processor time that a process and all below it have had so far or waited for, in seconds.

    None where it has ended, is held by a signal or a debugger, or this host does not tell. Blocks for a moment; may be
    called in any thread.
    """
    nanoseconds = family.total(process, _nanoseconds)
    return None if nanoseconds is None else nanoseconds / 1e9


def _nanoseconds(pid: int) -> int:
    threads = list(Path(f"/proc/{pid}/task").iterdir())
    if any(_is_held(thread) for thread in threads):
        raise OSError(f"process {pid} is held")
    ran_and_waited = ((thread / "schedstat").read_text().split()[:2] for thread in threads)
    return sum(int(ran) + int(waited) for ran, waited in ran_and_waited)


def _is_held(thread: Path) -> bool:
    stat = (thread / "stat").read_bytes()
    return stat[stat.rindex(b")") + 2 :][:1] in (b"T", b"t")  # see proc_pid_stat(5)
