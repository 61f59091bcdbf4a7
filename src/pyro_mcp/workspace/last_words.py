"""What a machine that is lost has said, and how it ended."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pyro_mcp.errors import GuestFailed
from pyro_mcp.guest.printable import printable
from pyro_mcp.vmm.machine import Machine

_CONSOLE_LINES = 12
# A channel is closed before the process that had it has ended.
_END_SECONDS = 0.5


def explained(error: GuestFailed, console: str) -> GuestFailed:
    """The same error with the last that the guest's console or the VMM said."""
    lines = [line.rstrip() for line in console.splitlines() if line.strip()]
    if not lines:
        return error
    said = "\n".join(f"  | {printable(line)}" for line in lines[-_CONSOLE_LINES:])
    return GuestFailed(error.code, f"{error.message}; the machine's last words:\n{said}", error.hint)


@asynccontextmanager
async def told_if_lost(machine: Machine) -> AsyncIterator[None]:
    """Around the use of a guest that is up: where that fails because its VMM has ended, the error says how it ended.

    Whoever runs a command has no other way to learn whether the guest reset itself or something killed its VMM.
    """
    try:
        yield
    except GuestFailed as error:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await machine.process.wait()
        code = machine.process.exit_code
        if code is None:
            raise
        how = f"its VMM ended with exit code {code}" if code >= 0 else f"its VMM was killed by signal {-code}"
        lost = GuestFailed(error.code, f"{error.message} ({how})", error.hint)
        raise explained(lost, machine.console()) from error
