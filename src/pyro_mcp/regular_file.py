"""Opening a file that ought to be one: whatever stands in its place, this does not wait for it."""

import errno
import os
import stat
from pathlib import Path


def opened(path: Path) -> int:
    """A descriptor to read it with, for the caller to close. Raises `OSError` for anything but a regular file.

    A pipe would be waited for, until somebody else opens it; see fifo(7).
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return fd
