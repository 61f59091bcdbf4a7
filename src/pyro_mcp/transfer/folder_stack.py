"""Folders below a descriptor, reached by name without following links, and kept open while their content comes."""

import errno
import os
from collections.abc import Callable

from pyro_mcp.transfer.names import BadName

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_FOLDER = (errno.ENOTDIR, errno.ELOOP)


class FolderStack:
    """The way from a top folder down to the one that was asked for last; neighbours share most of it.

    `making` is called before each folder that is made, and may raise.
    """

    def __init__(self, top: int, making: Callable[[], object]) -> None:
        self._making = making
        self._names: list[bytes] = []
        self._fds = [os.dup(top)]

    def enter(self, parts: tuple[bytes, ...], *, make: bool) -> int:
        """The descriptor of a folder, open until the next call; with `make` missing ones are made (mode 0700).

        Raises `BadName` where something on the way is no folder, `FileNotFoundError` without `make`.
        """
        shared = 0
        while shared < min(len(parts), len(self._names)) and parts[shared] == self._names[shared]:
            shared += 1
        while len(self._names) > shared:
            self._names.pop()
            os.close(self._fds.pop())
        for name in parts[shared:]:
            self._fds.append(self._open(name, make))
            self._names.append(name)
        return self._fds[-1]

    def _open(self, name: bytes, make: bool) -> int:
        folder = self._fds[-1]
        try:
            return os.open(name, _FLAGS, dir_fd=folder)
        except FileNotFoundError:
            if not make:
                raise
            self._making()
            os.mkdir(name, 0o700, dir_fd=folder)
            return os.open(name, _FLAGS, dir_fd=folder)
        except OSError as error:
            if error.errno in _NO_FOLDER:
                raise BadName("an entry below something that is no folder") from error
            raise

    def close(self) -> None:
        """Close what is open."""
        while self._fds:
            os.close(self._fds.pop())
        self._names.clear()
