"""What QEMU is told while it runs: to write down a template. Over QMP, by QEMU's own library."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from qemu.qmp import QMPClient, QMPError

from pyro_mcp.errors import GuestFailed
from pyro_mcp.vmm.qemu_orders import IGNORE_SHARED

_STATE = "state"
_LOOK_AGAIN_SECONDS = 0.005
_SAVE_SECONDS = 20.0


async def save_state(monitor: socket.socket, state_fd: int) -> None:
    """Write the machine's state, but not the memory that a file holds, to a descriptor; the machine stands still then.

    Raises `GuestFailed` where QEMU does not do that.
    """
    try:
        async with asyncio.timeout(_SAVE_SECONDS), _connected(monitor) as client:
            await client.execute("migrate-set-capabilities", IGNORE_SHARED)
            client.send_fd_scm(state_fd)
            await client.execute("getfd", {"fdname": _STATE})
            await client.execute("migrate", {"uri": f"fd:{_STATE}"})
            while (status := await _status(client)) != "completed":
                if status in ("failed", "cancelled"):
                    raise _failed(f"the migration {status}")
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)
    except (QMPError, OSError, TimeoutError) as error:
        raise _failed(str(error) or type(error).__name__) from error


@asynccontextmanager
async def _connected(monitor: socket.socket) -> AsyncIterator[QMPClient]:
    client = QMPClient()
    await client.connect(monitor)
    try:
        yield client
    finally:
        await client.disconnect()


async def _status(client: QMPClient) -> str:
    answer = await client.execute("query-migrate")
    return str(answer.get("status", "")) if isinstance(answer, dict) else ""


def _failed(why: str) -> GuestFailed:
    return GuestFailed("no_template", f"QEMU could not write down a template: {why}", "run `pyro doctor`")
