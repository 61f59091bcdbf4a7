"""Tells whoever waits for a transfer how far it is, without ever holding it up."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from pyro_mcp import tasks
from pyro_mcp.models import NOTICE, Progress
from pyro_mcp.transfer.limits import Tally

Report = Callable[[Progress], Awaitable[None]]
_EVERY_SECONDS = 0.25


@asynccontextmanager
async def reported(report: Report, operation: str, tally: Tally, total_bytes: int | None) -> AsyncIterator[None]:
    """Report what `tally` counts, several times a second for as long as the block lasts, and once at its good end."""

    def now() -> Progress:
        detail = f"{tally.files:,} files"
        return Progress(operation, "copy", "", detail, done=tally.bytes, total=total_bytes, unit="bytes")

    async def keep_reporting() -> None:
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            await report(now())

    reporting = asyncio.create_task(keep_reporting())
    try:
        yield
    finally:
        await tasks.end(reporting)
    await report(now())


async def tell(report: Report, operation: str, notices: tuple[str, ...]) -> None:
    """Say what the user should know about what was copied and what was not."""
    for notice in notices:
        await report(Progress(operation, NOTICE, "", notice))


def left_out(tally: Tally) -> tuple[str, ...]:
    """What a transfer did not carry as it was, in words."""
    notices = []
    if tally.skipped:
        notices.append(f"{tally.skipped:,} sockets, pipes or devices left out")
    if tally.changed:
        notices.append(f"{tally.changed:,} files changed while they were read")
    return tuple(notices)
