"""Whether the daemon is wanted: a daemon that nobody has used for a while ends."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

IDLE_SECONDS = 600.0


class Activity:
    """Counts requests under way and calls `on_idle` when there was none for `idle_seconds`."""

    def __init__(self, on_idle: Callable[[], None], idle_seconds: float = IDLE_SECONDS) -> None:
        self._on_idle = on_idle
        self._idle_seconds = idle_seconds
        self._timer: asyncio.TimerHandle | None = None
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
            if self.active == 0:
                self._rest()

    def _rest(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._idle_seconds, self._on_idle)
