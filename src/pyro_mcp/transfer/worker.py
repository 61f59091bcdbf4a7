"""A thread of its own for work that blocks for long, with an end that is always seen.

The event loop's own pool has a handful of threads; transfers that wait for each other's guests there would hold up
everything else in the daemon.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T], unblock: Callable[[], object]) -> T:
    """Run `work` in a thread and return what it returns or raise what it raises.

    When this is cancelled `unblock` is called, which must make `work` end soon, and the cancellation goes on only after
    the thread has ended: whatever it uses may then be closed and removed.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[T] = loop.create_future()

    def main() -> None:
        try:
            result = work()
        except BaseException as error:
            loop.call_soon_threadsafe(ended.set_exception, _raisable(error))
        else:
            loop.call_soon_threadsafe(ended.set_result, result)

    threading.Thread(target=main, name="transfer", daemon=True).start()
    cancelled: asyncio.CancelledError | None = None
    while not ended.done():
        try:
            await asyncio.wait([ended])
        except asyncio.CancelledError as error:
            cancelled = error
            unblock()
    if cancelled is None:
        return ended.result()
    with contextlib.suppress(BaseException):
        ended.result()  # looked at, so that asyncio does not report it as lost
    raise cancelled


def _raisable(error: BaseException) -> BaseException:
    """A future takes no `StopIteration`, and nothing else than an error should come out of a thread."""
    return error if isinstance(error, Exception) and not isinstance(error, StopIteration) else RuntimeError(repr(error))
