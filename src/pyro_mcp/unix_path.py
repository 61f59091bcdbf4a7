"""Connecting to a Unix socket by its path."""

import asyncio
import errno
import os
import socket
import stat
from pathlib import Path

_RETRY_SECONDS = 0.05


async def connect_to(path: Path) -> socket.socket:
    """A connection to whoever listens at `path`; waits while their queue is full. Raises `OSError`.

    The path may be longer than the 107 bytes that a socket's address holds. It is no symbolic link.
    """
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            _connect(connection, path)
        except BlockingIOError:
            # Not to be waited for: a Unix socket whose connection is refused for now is not under way.
            connection.close()
            await asyncio.sleep(_RETRY_SECONDS)
        except BaseException:
            connection.close()
            raise
        else:
            return connection


def _connect(connection: socket.socket, path: Path) -> None:
    # The name itself may be a VMM's, whose guest may have taken it over: a link could lead to anybody's socket.
    named = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(named).st_mode):
            raise ConnectionRefusedError(errno.ECONNREFUSED, "this is no socket", str(path))
        connection.connect(f"/proc/self/fd/{named}")
    finally:
        os.close(named)
