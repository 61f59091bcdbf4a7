"""Which file descriptors are open, for tests that nothing stays open."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def none_left() -> Iterator[None]:
    """Fail where a descriptor is open after the block that was not before it.

    There may be fewer: what an earlier test has left over can be closed at any time, with other garbage.
    """
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert set(os.listdir("/proc/self/fd")) - before == set()
