"""Files in memory that can be read and mapped, and that nobody can write to or resize, whatever they do.

QEMU opens a guest's memory for writing even where it is to be a private copy, and a VMM may reopen what it was given.
So what it begins from is a sealed file, see memfd_create(2) and fcntl(2).
"""

import fcntl
import os
import threading
from collections import OrderedDict
from pathlib import Path

from pyro_mcp import regular_file, sparse

_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
_KEPT = 4  # copies that stay in memory between machines


def new(name: str) -> int:
    """An empty file that can be sealed."""
    return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def seal(fd: int) -> None:
    """Make it what this module is about. Raises `OSError` while anybody has it mapped for writing."""
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)


def opened_again(fd: int) -> int:
    """Another descriptor of the same file, with a position of its own, for the caller to close."""
    return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)


class SealedCopies:
    """Sealed copies of files that do not change, made when they are first wanted; the last few are kept."""

    def __init__(self) -> None:
        self._copies: OrderedDict[tuple[int, int, int], int] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, path: Path) -> int:
        """A descriptor of a file's copy, for the caller to close. Blocks while it is made. Raises `OSError`."""
        file = regular_file.opened(path)
        try:
            with self._lock:
                return os.dup(self._kept(file, path.name))
        finally:
            os.close(file)

    def forget(self) -> None:
        """Keep none; machines that have theirs go on."""
        with self._lock:
            while self._copies:
                os.close(self._copies.popitem()[1])

    def _kept(self, file: int, name: str) -> int:
        about = os.fstat(file)
        key = (about.st_dev, about.st_ino, about.st_mtime_ns)
        if key not in self._copies:
            self._copies[key] = _copy(file, name)
            if len(self._copies) > _KEPT:
                os.close(self._copies.popitem(last=False)[1])
        self._copies.move_to_end(key)
        return self._copies[key]


def _copy(file: int, name: str) -> int:
    copy = new(name)
    try:
        sparse.copy(file, copy)
        seal(copy)
    except BaseException:
        os.close(copy)
        raise
    return copy


copies = SealedCopies()
