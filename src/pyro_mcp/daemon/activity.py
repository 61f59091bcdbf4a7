"""Whether the daemon is wanted: a daemon that nobody has used for a while ends."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

IDLE_SECONDS = 600.0


class Activity:
    """Counts requests under way and calls `on_idle` when there was none for `idle_seconds`.

    `is_wanted` is asked then: a daemon whose machines run stays, however long nobody asks for anything, to be at hand
    when one of them ends or its time is up.
    """

    def __init__(
        self,
        on_idle: Callable[[], None],
        idle_seconds: float = IDLE_SECONDS,
        is_wanted: Callable[[], bool] = lambda: False,
    ) -> None:
        self._on_idle = on_idle
        self._idle_seconds = idle_seconds
        self._is_wanted = is_wanted
        self._timer: asyncio.TimerHandle | None = None
        self._ended = asyncio.Event()
        self.active = 0
        self._rest()

    @contextmanager
    def request(self) -> Iterator[None]:
        """A request is under way for as long as the block runs."""
        self.active += 1
        if self._timer is not None:
            self._timer.cancel()
        try:
            yield
        finally:
            self.active -= 1
            self._ended.set()
            if self.active == 0:
                self._rest()

    async def alone(self, within_seconds: float) -> bool:
        """Whether the request that asks is the only one, or becomes it within the time given.

        A request whose client has its answer already may still be about to end.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                while self.active > 1:
                    self._ended.clear()
                    await self._ended.wait()
        return self.active <= 1

    def _rest(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._idle_seconds, self._rested)

    def _rested(self) -> None:
        if self._is_wanted():
            self._rest()
        else:
            self._on_idle()
