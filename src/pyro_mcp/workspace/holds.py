"""Who uses a workspace, and who has it for itself."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from pyro_mcp.errors import Conflict

PATIENCE_SECONDS = 30.0


@dataclass
class _Waiter:
    exclusive: bool
    granted: asyncio.Future[None]
    patience: asyncio.TimerHandle | None = None


@dataclass
class _Hold:
    """The holders of one workspace, and who waits, in the order in which they came."""

    shared: int = 0
    exclusive: bool = False
    waiting: deque[_Waiter] = field(default_factory=deque)

    @property
    def idle(self) -> bool:
        return not (self.shared or self.exclusive or self.waiting)


class Holds:
    """Shared and exclusive holds, first come, first served: nobody is overtaken for ever.

    An exclusive one is refused when those that hold shared make it wait too long.
    """

    def __init__(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._holds: dict[str, _Hold] = {}

    @asynccontextmanager
    async def shared(self, workspace_id: str) -> AsyncIterator[None]:
        """Use it beside others; waits while somebody has it for itself, or waited for that before us."""
        await self._take(workspace_id, exclusive=False)
        try:
            yield
        finally:
            self._give_back(workspace_id, exclusive=False)

    @asynccontextmanager
    async def exclusive(self, workspace_id: str) -> AsyncIterator[None]:
        """Have it alone. Raises `Conflict` (`workspace_busy`) when others still use it after 30 seconds."""
        await self._take(workspace_id, exclusive=True)
        try:
            yield
        finally:
            self._give_back(workspace_id, exclusive=True)

    async def _take(self, workspace_id: str, *, exclusive: bool) -> None:
        hold = self._holds.setdefault(workspace_id, _Hold())
        waiter = _Waiter(exclusive, asyncio.get_running_loop().create_future())
        hold.waiting.append(waiter)
        self._advance(workspace_id, hold)
        try:
            await waiter.granted
        except BaseException:
            if waiter.granted.done() and not waiter.granted.cancelled() and waiter.granted.exception() is None:
                # Cancelled at the very moment at which it was granted.
                self._give_back(workspace_id, exclusive=exclusive)
            else:
                self._leave(workspace_id, hold, waiter)
            raise

    def _give_back(self, workspace_id: str, *, exclusive: bool) -> None:
        hold = self._holds[workspace_id]
        if exclusive:
            hold.exclusive = False
        else:
            hold.shared -= 1
        self._advance(workspace_id, hold)

    def _leave(self, workspace_id: str, hold: _Hold, waiter: _Waiter) -> None:
        if waiter.patience is not None:
            waiter.patience.cancel()
        if waiter in hold.waiting:
            hold.waiting.remove(waiter)
        self._advance(workspace_id, hold)

    def _advance(self, workspace_id: str, hold: _Hold) -> None:
        """Let in who may come in."""
        while hold.waiting and self._may_enter(hold, hold.waiting[0]):
            waiter = hold.waiting.popleft()
            if waiter.patience is not None:
                waiter.patience.cancel()
            if waiter.granted.done():
                continue  # it has left, and has not had its turn to say so
            if waiter.exclusive:
                hold.exclusive = True
            else:
                hold.shared += 1
            waiter.granted.set_result(None)
        if hold.waiting and hold.shared and hold.waiting[0].patience is None:
            first = hold.waiting[0]
            loop = asyncio.get_running_loop()
            first.patience = loop.call_later(self._patience_seconds, self._refuse, workspace_id, first)
        if hold.idle and self._holds.get(workspace_id) is hold:
            del self._holds[workspace_id]

    def _may_enter(self, hold: _Hold, waiter: _Waiter) -> bool:
        if waiter.granted.done():
            return True
        return not hold.exclusive and not (waiter.exclusive and hold.shared)

    def _refuse(self, workspace_id: str, waiter: _Waiter) -> None:
        if not waiter.granted.done():
            waiter.granted.set_exception(
                Conflict(
                    "workspace_busy",
                    f"{workspace_id} is in use: others still transfer files or start commands there",
                    "try again when they have finished",
                )
            )
