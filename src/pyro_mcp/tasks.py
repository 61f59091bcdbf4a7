"""Ending a task that nobody wants any more, and waiting for whichever comes first."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def end(task: "asyncio.Task[Any]") -> None:
    """Cancel a task and wait for its end; what it returns or raises is dropped.

    Awaiting the task itself would not tell its cancellation from one of our own that comes at the same moment.
    """
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()  # looked at, so that asyncio does not report it as lost


async def first_of(*waits: Coroutine[Any, Any, object], timeout_seconds: float | None = None) -> None:
    """Wait until one of them has returned, or for that long; none goes on."""
    waiting = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(waiting, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
