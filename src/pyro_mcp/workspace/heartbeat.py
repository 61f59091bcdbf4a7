"""Sees that a guest has stopped for good although its VMM goes on, while somebody needs it.

A guest that halts, or under Firecracker one that turns itself off, ends nothing on the host: whoever asks it for
something would wait until their own time is up, again and again. Such a guest gives no sign of life and asks for no
processor; one that is overloaded asks for all that it can get, and is left alone.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pyro_mcp import tasks
from pyro_mcp.errors import GuestFailed
from pyro_mcp.guest.client import GuestClient
from pyro_mcp.process_watch import Detached
from pyro_mcp.vmm.processor_time import wanted_seconds

BEAT_SECONDS = 5.0
# One alone may be our own fault: this process may have been held, and have seen the answer too late.
_MOST_MISSED = 2
_STILL = 0.05  # of a processor: what a guest that lives but has nothing to do stays below, too


class Heartbeat:
    """Asks a guest for a sign of life every `beat_seconds` while it is used, or `busy` with what nobody waits for.

    `on_halt` is called once when it has stopped for good, and must not wait.
    """

    def __init__(
        self,
        guest: GuestClient,
        process: Detached,
        *,
        busy: Callable[[], bool],
        on_halt: Callable[[], None],
        beat_seconds: float = BEAT_SECONDS,
    ) -> None:
        self._guest = guest
        self._process = process
        self._busy = busy
        self._on_halt = on_halt
        self._beat_seconds = beat_seconds
        self._users = 0
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Watch it from now on, for as long as it is used or busy."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())

    @contextmanager
    def used(self) -> Iterator[None]:
        """It is used while the block runs."""
        self._users += 1
        self.begin()
        try:
            yield
        finally:
            self._users -= 1

    async def end(self) -> None:
        """The machine is about to end, or is somebody else's from now on."""
        if self._task is not None:
            await tasks.end(self._task)

    async def _watch(self) -> None:
        missed = 0
        while missed < _MOST_MISSED:
            if missed == 0:
                await asyncio.sleep(self._beat_seconds)
            if not self._users and not self._busy():
                return
            missed = missed + 1 if await self._is_still() else 0
        self._on_halt()

    async def _is_still(self) -> bool:
        """Whether it neither answers nor does anything for the time of a beat."""
        before = await asyncio.to_thread(wanted_seconds, self._process)
        try:
            async with asyncio.timeout(self._beat_seconds):
                await self._guest.ping()
            return False
        except TimeoutError:
            after = await asyncio.to_thread(wanted_seconds, self._process)
        except GuestFailed:
            return False  # others see the end of the session
        return before is not None and after is not None and after - before < _STILL * self._beat_seconds
