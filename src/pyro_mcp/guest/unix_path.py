"""Connecting to a Unix socket by its path."""

import asyncio
import os
import socket
from pathlib import Path

_RETRY_SECONDS = 0.05


async def connect_to(path: Path) -> socket.socket:
    """A connection to whoever listens at `path`; waits while their queue is full. Raises `OSError`.

    The path may be longer than the 107 bytes that a socket's address holds.
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
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
