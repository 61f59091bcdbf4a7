"""Running checks: together, each within its time, and none able to take the others down."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

from pyro_mcp.doctor.report import REPORT_IT, Report, Row, failed

QUICK_SECONDS = 10.0


@dataclass(frozen=True)
class Check:
    """One thing to look at. `examine` returns its row within `timeout_seconds`, or the row says that it did not.

    One that is `heavy` keeps a processor busy, as a guest that boots does; its time begins when it has one.
    """

    name: str
    examine: Callable[[], Awaitable[Row]]
    timeout_seconds: float = QUICK_SECONDS
    heavy: bool = False


async def run_checks(
    checks: Sequence[Check], on_row: Callable[[Row], None], processors: int = os.cpu_count() or 1
) -> Report:
    """Run all checks at once, but only as many heavy ones as there are `processors`: more would take each other's time,
    until healthy guests look like hung ones.

    `on_row` gets each row as soon as it and all before it are known. Cancelling this cancels every check and returns
    when they have cleaned up.
    """
    began = time.monotonic()
    slots = asyncio.Semaphore(processors)
    tasks = [asyncio.create_task(_examine(check, slots if check.heavy else nullcontext())) for check in checks]
    rows = []
    try:
        for task in tasks:
            rows.append(await task)
            on_row(rows[-1])
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return Report(tuple(rows), round((time.monotonic() - began) * 1000))


async def _examine(check: Check, slot: AbstractAsyncContextManager[None]) -> Row:
    try:
        async with slot, asyncio.timeout(check.timeout_seconds):
            return await check.examine()
    except TimeoutError:
        found = f"this check did not end within {check.timeout_seconds:g} s"
        return failed(check.name, found, "run pyro doctor again when this machine is less busy")
    except Exception as error:
        return failed(check.name, f"this check broke: {type(error).__name__}: {error}", REPORT_IT)
