"""What a machine that is lost has said, and how it ended."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pyro_mcp.errors import GuestFailed
from pyro_mcp.guest.mux import StreamReset
from pyro_mcp.guest.printable import printable
from pyro_mcp.vmm.machine import Machine
from pyro_mcp.vmm.routine_log import telling_lines

_CONSOLE_LINES = 12
# A channel is closed before the process that had it has ended.
_END_SECONDS = 0.5
_AGAIN = "try again; if that happens again, give it more memory with --mem-mib, or run `pyro doctor`"


def explained(error: GuestFailed, console: str) -> GuestFailed:
    """The same error with the last that the guest's console or the VMM said, but for what the VMM always says."""
    lines = telling_lines(console)
    if not lines:
        return error
    said = "\n".join(f"  | {printable(line)}" for line in lines[-_CONSOLE_LINES:])
    return GuestFailed(error.code, f"{error.message}; the machine's last words:\n{said}", error.hint)


@asynccontextmanager
async def told_if_lost(machine: Machine) -> AsyncIterator[None]:
    """Around the use of a guest that is up, in a machine that is thrown away: where that fails because its VMM has
    ended, the error says how it ended. Of a guest that went away its hint speaks of no workspace.

    Whoever runs a command has no other way to learn whether the guest reset itself or something killed its VMM.
    """
    try:
        yield
    except GuestFailed as error:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await machine.process.wait()
        code = machine.process.exit_code
        if code is None and not isinstance(error, StreamReset):
            raise
        how = "" if code is None else f" ({_how_ended(code)})"
        hint = _AGAIN if isinstance(error, StreamReset) else error.hint
        lost = GuestFailed(error.code, f"{error.message}{how}", hint)
        raise (lost if code is None else explained(lost, machine.console())) from error


def _how_ended(code: int) -> str:
    """How a VMM ended. Nothing asks one to end in good order but its guest, which says so to nobody else."""
    if code < 0:
        return f"its VMM was killed by signal {-code}"
    why = ", as when its guest restarts or panics" if code == 0 else ""
    return f"its VMM ended with exit code {code}{why}"
