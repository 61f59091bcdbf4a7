"""The channel to the agent of a machine under Firecracker: vsock, which its VMM puts behind a Unix socket.

A connection to that socket names the guest's port in a first line. Before the guest's driver is up it is answered by
nothing at all, so the agent knocks at a port of the host when it listens. Source: Firecracker's docs/vsock.md, v1.12.
"""

import asyncio
import contextlib
import socket
from pathlib import Path

from pyro_mcp.unix_path import connect_to

GUEST_CID = 3  # the first that a guest may have; each VMM has a socket of its own, so all guests have the same
SOCKET = "v.sock"
# Also in guest-agent/src/vsock.rs.
_AGENT_PORT = 5000
_KNOCK_PORT = 5001
# Where a listener hears the agent's knock: the VMM connects there when the guest connects to that port of the host.
KNOCK_SOCKET = f"{SOCKET}_{_KNOCK_PORT}"
_ANSWER_SECONDS = 2.0
_LONGEST_ANSWER = 32  # bytes: "OK ", a port of 32 bits, and the line's end


async def wait_for_knock(listener: socket.socket) -> None:
    """Wait until the agent of a machine that boots listens; `listener` does so at `KNOCK_SOCKET` in the VMM's folder.

    No time limit of its own: whoever waits has to see by itself that the VMM has ended.
    """
    listener.setblocking(False)
    knock, _ = await asyncio.get_running_loop().sock_accept(listener)
    knock.close()


async def open_connection(folder: Path) -> socket.socket:
    """A connection to the agent of a machine whose VMM runs in that folder.

    Raises `FileNotFoundError` or `ConnectionRefusedError` where no VMM listens, and `ConnectionResetError` where no
    agent does, or says nothing for two seconds: a request that meets a guest which has just been restored is lost.
    """
    connection = await connect_to(folder / SOCKET)
    try:
        answer = await _asked(connection)
        if not (answer.startswith(b"OK ") and answer.endswith(b"\n")):
            raise ConnectionResetError("the guest does not take connections")
    except BaseException:
        connection.close()
        raise
    return connection


async def _asked(connection: socket.socket) -> bytes:
    """The VMM's answer; nothing where there is none in time, or it hangs up before it has even been asked."""
    with contextlib.suppress(BrokenPipeError, TimeoutError):
        async with asyncio.timeout(_ANSWER_SECONDS):
            await asyncio.get_running_loop().sock_sendall(connection, f"CONNECT {_AGENT_PORT}\n".encode())
            return await _line(connection)
    return b""


async def _line(connection: socket.socket) -> bytes:
    """One line and not a byte more, because what follows is the agent's."""
    line = b""
    while not line.endswith(b"\n") and len(line) < _LONGEST_ANSWER:
        byte = await asyncio.get_running_loop().sock_recv(connection, 1)
        if not byte:
            break
        line += byte
    return line
