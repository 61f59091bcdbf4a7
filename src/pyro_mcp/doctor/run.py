"""Running checks: all at once, each within its time, and none able to take the others down."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from pyro_mcp.doctor.report import REPORT_IT, Report, Row, failed

QUICK_SECONDS = 10.0


@dataclass(frozen=True)
class Check:
    """One thing to look at. `examine` returns its row within `timeout_seconds`, or the row says that it did not."""

    name: str
    examine: Callable[[], Awaitable[Row]]
    timeout_seconds: float = QUICK_SECONDS


async def run_checks(checks: Sequence[Check], on_row: Callable[[Row], None]) -> Report:
    """Run all checks at once; `on_row` gets each row as soon as it and all before it are known.

    Cancelling this cancels every check and returns when they have cleaned up.
    """
    began = time.monotonic()
    tasks = [asyncio.create_task(_examine(check)) for check in checks]
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


async def _examine(check: Check) -> Row:
    try:
        async with asyncio.timeout(check.timeout_seconds):
            return await check.examine()
    except TimeoutError:
        found = f"this check did not end within {check.timeout_seconds:g} s"
        return failed(check.name, found, "run pyro doctor again when this machine is less busy")
    except Exception as error:
        return failed(check.name, f"this check broke: {type(error).__name__}: {error}", REPORT_IT)
