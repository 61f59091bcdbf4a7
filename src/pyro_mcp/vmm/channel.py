"""Sockets of machines that are kept: who listens there, how their agents are reached; and what their VMMs print."""

import asyncio
import contextlib
import fcntl
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from pyro_mcp import tasks
from pyro_mcp.unix_path import connect_to
from pyro_mcp.vmm import vsock
from pyro_mcp.vmm.machine import OpenChannel

AGENT_SOCKET = "agent.sock"
FIRECRACKER = "firecracker"
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


def to_agent(vmm: str, folder: Path) -> OpenChannel:
    """How the agent of a machine that runs for some time already is reached; `vmm` is its driver's name."""
    if vmm == FIRECRACKER:
        return partial(vsock.open_connection, folder)
    return partial(connect_to, folder / AGENT_SOCKET)


def while_alive(open_channel: OpenChannel, ended: Callable[[], Awaitable[object]]) -> OpenChannel:
    """The same, but with `ConnectionRefusedError` as soon as the VMM has ended, which not every channel tells."""

    async def opened() -> socket.socket:
        opening, ending = asyncio.ensure_future(open_channel()), asyncio.ensure_future(ended())
        try:
            try:
                await asyncio.wait((opening, ending), return_when=asyncio.FIRST_COMPLETED)
                has_ended = ending.done()
            finally:
                await tasks.end(ending)
            # Also where the channel is open: its starter, for one, may still have what a dead VMM listened at.
            if has_ended:
                raise ConnectionRefusedError("the VMM has ended")
            return opening.result()
        except BaseException:
            await _drop(opening)
            raise

    return opened


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


async def _drop(opening: "asyncio.Task[socket.socket]") -> None:
    await tasks.end(opening)
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _bind(listener: socket.socket, path: Path) -> None:
    if len(os.fsencode(path)) <= _ADDRESS_BYTES:
        listener.bind(str(path))
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
