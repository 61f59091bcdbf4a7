"""A machine that rests gives memory that its guest does not need back to the host, once, until it is used again.

The guest drops what it has cached, gives up what is free to a balloon, and gets it back soon: by then the VMM has let
go of the pages, and the guest's next use of each takes a new one. A guest that does not go along, or does not tell
the truth, only keeps what it has.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pyro_mcp import tasks
from pyro_mcp.errors import PyroError
from pyro_mcp.guest import tools
from pyro_mcp.guest.client import GuestClient
from pyro_mcp.guest.tool_requests import SpareTool
from pyro_mcp.guest.violation import ProtocolViolation
from pyro_mcp.to_the_end import to_the_end
from pyro_mcp.vmm.balloon import Balloon
from pyro_mcp.workspace.json_lines import decoded, json_object

log = logging.getLogger(__name__)
# Longer than a model thinks between two commands as a rule: what the guest has cached is read again after it.
RESTED_SECONDS = 90.0
_RESERVE_MIB = 64  # that the guest keeps for what it does of itself meanwhile
_ANSWER_SECONDS = 10.0
# Nobody tells when a guest is done. It needs a second for some hundred MiB, or all of this where it is emulated.
_FULL_SECONDS = 30.0
_LACKS_MEMORY = "a balloon is not emptied, so its guest lacks memory until somebody tries again: %s"


@dataclass(frozen=True)
class _Spare:
    free_bytes: int


async def give_back(guest: GuestClient, balloon: Balloon, mem_mib: int) -> None:
    """Give back what a guest of `mem_mib` MiB can do without, which takes less than a minute.

    Being cancelled gives the guest its memory back first, and so does an error. Raises `PyroError` and `TimeoutError`.
    """
    async with asyncio.timeout(_ANSWER_SECONDS):
        spare = await _spare_mib(guest)
    mib = min(spare, mem_mib) - _RESERVE_MIB
    if mib <= 0:
        return
    try:
        await balloon.set_balloon(mib)
        await asyncio.sleep(_FULL_SECONDS)
    finally:
        await to_the_end(balloon.set_balloon(0))


async def _spare_mib(guest: GuestClient) -> int:
    """What the guest says is free."""
    answer = await tools.run(guest, SpareTool(), stall_seconds=_ANSWER_SECONDS)
    free = decoded(_Spare, json_object(answer)).free_bytes
    if free < 0:
        raise ProtocolViolation("less than nothing is free")
    return free >> 20


class _Remembering:
    """A balloon that knows whether its guest may lack memory: whether the last word to it was not a 0 that it took."""

    def __init__(self, balloon: Balloon) -> None:
        self._balloon = balloon
        self.may_be_full = False

    async def set_balloon(self, mib: int) -> None:
        self.may_be_full = True
        await self._balloon.set_balloon(mib)
        self.may_be_full = mib > 0

    async def empty(self) -> None:
        """Ask for nothing, and go on where even that fails."""
        try:
            await self.set_balloon(0)
        except PyroError as error:
            log.warning(_LACKS_MEMORY, error)


class Resting:
    """Sees when a machine rests. `busy` tells whether something runs in it that nobody waits for."""

    def __init__(self, guest: GuestClient, balloon: Balloon | None, mem_mib: int, busy: Callable[[], bool]) -> None:
        self._guest = guest
        self._balloon = None if balloon is None else _Remembering(balloon)
        self._mem_mib = mem_mib
        self._busy = busy
        self._users = 0
        self._timer: asyncio.TimerHandle | None = None
        self._giving: asyncio.Task[None] | None = None
        self._ended = False

    async def take_over(self) -> None:
        """Somebody else saw to the machine, and was killed perhaps while its balloon was full."""
        if self._balloon is not None:
            await self._balloon.empty()

    def begin(self) -> None:
        """The machine is there, and nobody uses it yet."""
        self._rest()

    @asynccontextmanager
    async def used(self) -> AsyncIterator[None]:
        """The machine is used while the block runs, and its guest has all its memory."""
        self._users += 1
        try:
            await self._wake()
            yield
        finally:
            self._users -= 1
            self._rest()

    async def end(self) -> None:
        """The machine is about to end, or is somebody else's from now on."""
        self._ended = True
        await self._wake()

    async def _wake(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._giving is not None:
            await tasks.end(self._giving)
        if self._balloon is not None and self._balloon.may_be_full:
            await self._balloon.empty()

    def _rest(self) -> None:
        if self._balloon is None or self._users or self._ended:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(RESTED_SECONDS, self._rested, self._balloon)

    def _rested(self, balloon: _Remembering) -> None:
        self._timer = None
        if self._busy():
            self._rest()
        else:
            self._giving = asyncio.create_task(self._give_back(balloon))

    async def _give_back(self, balloon: _Remembering) -> None:
        try:
            await give_back(self._guest, balloon, self._mem_mib)
        except (PyroError, TimeoutError) as error:
            if balloon.may_be_full:
                log.warning(_LACKS_MEMORY, error)
            else:
                log.info("a machine gives no memory back: %s", error)
