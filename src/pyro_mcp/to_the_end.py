"""Work that must come to its end even if whoever waits for it is cancelled, once or often."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def to_the_end(work: Coroutine[Any, Any, T], undo: Callable[[T], object] | None = None) -> T:
    """Await `work`; a cancellation meanwhile is raised only after it has ended.

    Its result is then handed to `undo`, for results that somebody must close. Threads and the ends of processes need
    this: cancelling the waiter does not stop them, and cleaning up below their feet would fail.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    if task.exception() is None and undo is not None:
        undo(task.result())
    raise cancelled
