"""Machines that are ready before anybody asks for a workspace: the first of a chat need not wait for one.

There are some only while a chat host is connected and workspaces are made now and then, and while the host has memory
to spare. A machine that is taken is replaced, but not before whoever took it has had a moment to use it.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pyro_mcp import tasks
from pyro_mcp.errors import PyroError
from pyro_mcp.images import catalog, store
from pyro_mcp.images.store import Store
from pyro_mcp.models import ReadyMachines
from pyro_mcp.to_the_end import to_the_end
from pyro_mcp.workspace.spare_memory import spare_mib
from pyro_mcp.workspace.unclaimed import USUAL, Unclaimed
from pyro_mcp.workspace_models import CreateWorkspace

log = logging.getLogger(__name__)
IDLE_SECONDS = 600.0  # after which nobody is expected to make a workspace soon
_TICK_SECONDS = 10.0
_PAUSE_SECONDS = 1.0  # that a new workspace has the processors to itself
_FAILED_SECONDS = 60.0  # before it is tried again
# A machine can come to need all of its memory, as much again for what else begins meanwhile, and the host needs some.
_SPARE_TO_BEGIN_MIB = 2 * USUAL.mem_mib + 512
_SPARE_TO_STAY_MIB = USUAL.mem_mib

Start = Callable[[str], Awaitable[Unclaimed]]


@dataclass
class Pool:
    """The machines that are ready. `start` begins one with the environment of that name."""

    images: Store
    start: Start
    spare_mib: Callable[[], int] = spare_mib
    environment: str = catalog.DEFAULT  # of the workspaces that are likely to be made
    _wanted: int = 0
    _resting: bool = False
    _over: bool = False
    _last_interest: float = field(default_factory=time.monotonic)
    _not_before: float = 0.0
    _filling: "asyncio.Task[bool] | None" = None
    _ready: list[Unclaimed] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def want(self, count: int, somebody_came: bool) -> None:
        """Have so many from now on, at most, also where there have been none for a while if somebody has come."""
        if somebody_came:
            self._interest()
        self._wanted = count
        if count == 0:
            self._stop_filling()
        self._changed.set()

    def take(self, request: CreateWorkspace) -> Unclaimed | None:
        """One for such a workspace, if there is one; the caller has to `give_back` it."""
        self._interest()
        self._wait(_PAUSE_SECONDS)
        if (request.vcpu_count, request.mem_mib) != (USUAL.vcpu_count, USUAL.mem_mib):
            return None
        self.environment = request.environment
        for machine in self._ready:
            if machine.is_alive and machine.shape.environment == request.environment:
                self._ready.remove(machine)
                return machine
        return None

    async def give_back(self, machine: Unclaimed) -> None:
        """Whoever took it has made a workspace of it, or needs it no longer."""
        if machine.is_alive and not self._over:
            self._ready.append(machine)
        else:
            await _ended(machine)
        self._wait(_PAUSE_SECONDS)
        self._changed.set()

    async def describe(self) -> ReadyMachines:
        """What is ready now, and what that takes of the host's memory; finding out takes milliseconds."""
        return ReadyMachines(tuple([await each.describe() for each in tuple(self._ready) if each.is_alive]))

    async def rest(self) -> None:
        """End them all, and have none until somebody makes a workspace or a chat host comes."""
        self._resting = True
        self._stop_filling()
        async with self._changing:
            await self._end(tuple(self._ready))

    async def keep_filled(self) -> None:
        """Begin and end machines as they are needed, until this is cancelled; none is left then."""
        try:
            while True:
                self._changed.clear()
                if not await self._tried():
                    await self._for_a_while()
        finally:
            self._over = True
            await to_the_end(self._end(tuple(self._ready)))

    async def _tried(self) -> bool:
        """End what nobody needs, and begin one where one is needed; False if none was begun."""
        try:
            async with self._changing:
                await self._end(self._unneeded())
                return self._room() and await self._filled()
        except Exception:  # or there would be no more machines for as long as this daemon lives
            log.exception("machines cannot be kept ready")
            self._wait(_FAILED_SECONDS)
            return False

    def _interest(self) -> None:
        self._last_interest = time.monotonic()
        self._resting = False
        self._changed.set()

    def _wait(self, seconds: float) -> None:
        self._not_before = max(self._not_before, time.monotonic() + seconds)

    def _size(self) -> int:
        """How many there should be now, if the host can have them."""
        idle = time.monotonic() - self._last_interest > IDLE_SECONDS
        return 0 if idle or self._resting else self._wanted

    def _room(self) -> bool:
        """Whether to begin another one now."""
        if len(self._ready) >= self._size() or time.monotonic() < self._not_before:
            return False
        installed = store.reference(self.images, self.environment) is not None
        return installed and self.spare_mib() >= _SPARE_TO_BEGIN_MIB

    def _unneeded(self) -> tuple[Unclaimed, ...]:
        if self._ready and self.spare_mib() < _SPARE_TO_STAY_MIB:
            return tuple(self._ready)
        installed = store.reference(self.images, self.environment)
        wanted = None if installed is None else (self.environment, installed.digest)
        fit = [each for each in self._ready if each.is_alive and (each.shape.environment, each.shape.digest) == wanted]
        return tuple(each for each in self._ready if each not in fit[: self._size()])

    async def _filled(self) -> bool:
        """Begin one; False if that failed, or nobody wants it any more."""
        self._filling = asyncio.create_task(self._fill())
        try:
            await asyncio.wait((self._filling,))
        except asyncio.CancelledError:
            await to_the_end(tasks.end(self._filling))
            raise
        return not self._filling.cancelled() and self._filling.result()

    def _stop_filling(self) -> None:
        """Whoever waits for `_changing` need not wait for a machine to begin, which can take a minute."""
        if self._filling is not None:
            self._filling.cancel()

    async def _fill(self) -> bool:
        """Begin one; False if that failed."""
        try:
            machine = await self.start(self.environment)
        except (PyroError, OSError) as error:
            log.info("no machine is kept ready: %s", error)
            self._wait(_FAILED_SECONDS)
            return False
        self._ready.append(machine)
        log.info("a machine is ready: %s of %s", machine.workspace_id, machine.shape.environment)
        return True

    async def _end(self, machines: tuple[Unclaimed, ...]) -> None:
        for machine in machines:
            if machine not in self._ready:
                continue  # taken meanwhile
            self._ready.remove(machine)
            await _ended(machine)

    async def _for_a_while(self) -> None:
        """Until something has changed, one of them is gone, or it is time to look again."""
        until_allowed = self._not_before - time.monotonic()
        seconds = min(_TICK_SECONDS, until_allowed) if until_allowed > 0 else _TICK_SECONDS
        alive = [machine for machine in self._ready if machine.is_alive]  # or this would not wait for one that stays
        await tasks.first_of(self._changed.wait(), *(each.gone() for each in alive), timeout_seconds=seconds)


async def _ended(machine: Unclaimed) -> None:
    try:
        await to_the_end(machine.end())
    except PyroError as error:  # the next daemon removes it
        log.warning("what a machine left that nobody claimed stays for now: %s", error.message)
