"""Copies of files that are mostly holes."""

import errno
import os
from pathlib import Path


def copy(source: int, target: int) -> None:
    """Copy a file's data into an empty one, and leave the holes. Raises `OSError`."""
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    end = 0
    while end < size:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # only a hole is left
            raise
        end = os.lseek(source, start, os.SEEK_HOLE)
        _copy_range(source, target, start, end)


def copy_to(source: int, path: Path) -> None:
    """The same into a file that is not there yet."""
    with path.open("xb", buffering=0) as file:
        copy(source, file.fileno())


def _copy_range(source: int, target: int, start: int, end: int) -> None:
    os.lseek(target, start, os.SEEK_SET)
    while start < end:
        copied = os.sendfile(target, source, start, end - start)
        if copied == 0:
            raise OSError(errno.EIO, "the file that is copied ended early")
        start += copied
