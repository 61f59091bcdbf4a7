"""Which file descriptors are open, for tests that nothing stays open."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


def opened(pid: int | None = None) -> dict[int, str]:
    """What a process (this one, if none is named) has open: each descriptor, with what it is of."""
    folder = f"/proc/{'self' if pid is None else pid}/fd"
    found = {}
    for name in os.listdir(folder):
        with suppress(FileNotFoundError):  # closed while we looked, as the listing's own is by now
            found[int(name)] = os.readlink(f"{folder}/{name}")
    return found


@contextmanager
def none_left() -> Iterator[None]:
    """Fail where other descriptors are open after the block than before it."""
    before = opened()
    yield
    after = opened()
    more = {fd: after[fd] for fd in after.keys() - before.keys()}
    fewer = {fd: before[fd] for fd in before.keys() - after.keys()}
    assert not more, f"left open: {more}"
    assert not fewer, f"closed, but not opened here: {fewer}"
