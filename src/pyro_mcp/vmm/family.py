"""A VMM's process with its sandbox around it: all the processes that a machine is made of."""

from collections.abc import Iterator
from pathlib import Path


def family(pid: int) -> Iterator[int]:
    """A process and all below it; a VMM and its sandbox start no more once they run. Raises `OSError`."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from family(int(child))
