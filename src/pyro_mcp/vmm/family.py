"""A VMM's process with its sandbox around it: all the processes that a machine is made of."""

from collections.abc import Callable, Iterator
from pathlib import Path

from pyro_mcp.process_watch import Detached, start_time


def total(process: Detached, amount_of: Callable[[int], int]) -> int | None:
    """The sum of `amount_of` each pid, for a process and all below it.

    None where it has ended, or where `amount_of` raises `OSError`. May be called in any thread.
    """
    try:
        amount = sum(amount_of(pid) for pid in _family(process.pid))
    except OSError:
        return None
    return amount if start_time(process.pid) == process.start_time else None


def _family(pid: int) -> Iterator[int]:
    """A process and all below it; a VMM and its sandbox start no more once they run. Raises `OSError`."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from _family(int(child))
