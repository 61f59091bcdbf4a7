"""File locks (flock) between tasks and processes.

A lock belongs to an open file: it ends when the last descriptor of that opening is closed, also by the kernel when a
process is killed. That is why whatever must not be taken away is locked, and nothing has to be unlocked after a crash.
"""

import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from pyro_mcp import process
from pyro_mcp.errors import InternalError


@contextlib.contextmanager
def briefly(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock for a few system calls; blocks for as long as others do the same."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextlib.asynccontextmanager
async def for_long(path: Path, on_wait: Callable[[], None]) -> AsyncIterator[bool]:
    """Hold an exclusive lock for minutes; yields whether others had it first, after `on_wait` was called.

    Waiting can be cancelled: it is done by flock(1) on our descriptor, since a thread in flock(2) cannot be stopped.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        waited = not try_lock(fd)
        if waited:
            on_wait()
            ended = await process.run(["flock", "--exclusive", str(fd)], pass_fds=[fd])
            if ended.exit_code != 0:
                raise InternalError("lock_failed", f"flock ended with code {ended.exit_code}: {ended.stderr!r}")
        yield waited
    finally:
        os.close(fd)


def try_lock(fd: int, *, shared: bool = False) -> bool:
    """Lock an open file or folder if nobody is in the way; False if somebody is."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
