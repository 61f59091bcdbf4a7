"""Waiting for what gives no event of its own, bounded, and failing when it does not come."""

import asyncio
import time
from collections.abc import Callable

from tests.support.pace import patience


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Let other tasks run until the condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  (what is waited for knows nothing of tests)
            await asyncio.sleep(0)


def wait_until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Look again and again until the condition holds; for what other processes do."""
    deadline = time.monotonic() + patience(seconds)
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.005)
