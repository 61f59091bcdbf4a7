"""The socket under which the agent of a machine that is kept is found, and what its VMM prints."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ADDRESS_BYTES = 107  # of a path in a socket's address, see unix(7)
_LOG_BYTES = 256 * 1024


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A socket that listens at `path`, for its owner alone, in place of whatever was there; closed at the end.

    The file stays: whoever was given the socket goes on listening.
    """
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        _bind(listener, path)
        path.chmod(0o600)
        listener.listen(1)
        yield listener


class BoundedLog:
    """A file in memory that takes 256 KiB and not a byte more, whoever writes to its descriptor and how."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("vmm-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, _LOG_BYTES)
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)

    def text(self) -> str:
        """What has been written to it."""
        return os.pread(self.fd, _LOG_BYTES, 0).rstrip(b"\0").decode(errors="replace")

    def close(self) -> None:
        """Look at it no longer; whoever has the descriptor goes on writing."""
        os.close(self.fd)


def _bind(listener: socket.socket, path: Path) -> None:
    if len(os.fsencode(path)) <= _ADDRESS_BYTES:
        listener.bind(str(path))
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
