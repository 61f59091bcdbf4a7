"""How long a guest may do nothing about what it was asked for."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Patience:
    """Counts the time in which nothing moves, and only while it is the guest that is waited for.

    `limit` is what runs out; it must have been entered before anything else here is called.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.limit = asyncio.timeout(seconds)
        self._ours = 0
        self._over = False

    def moved(self) -> None:
        """The guest said something or took something: the time begins anew."""
        self._reset()

    @contextmanager
    def ours(self) -> Iterator[None]:
        """Time that we take: it does not count, and afterwards all of it begins anew."""
        self._ours += 1
        self._reset()
        try:
            yield
        finally:
            self._ours -= 1
            self._reset()

    def end(self) -> None:
        """Nothing is wanted of the guest any more."""
        self._over = True
        self._reset()

    def _reset(self) -> None:
        if self.limit.expired():
            return  # and cannot be set again
        waiting = not self._ours and not self._over
        self.limit.reschedule(asyncio.get_running_loop().time() + self.seconds if waiting else None)
