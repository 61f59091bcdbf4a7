"""Which file descriptors are open, for tests that nothing stays open."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


def opened() -> dict[int, str]:
    """What this process has open: each descriptor, with what it is of."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the listing's own is closed by now
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
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
