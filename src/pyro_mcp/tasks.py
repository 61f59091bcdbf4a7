"""Ending a task that nobody wants any more."""

import asyncio
from typing import Any


async def end(task: "asyncio.Task[Any]") -> None:
    """Cancel a task and wait for its end; what it returns or raises is dropped.

    Awaiting the task itself would not tell its cancellation from one of our own that comes at the same moment.
    """
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()  # looked at, so that asyncio does not report it as lost
