"""Environments as features use them: installed before use, pulled when asked."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from pyro_mcp import tasks
from pyro_mcp.images import debian, pull, store
from pyro_mcp.images.store import Store
from pyro_mcp.models import EnvironmentInfo, Progress

Report = Callable[[Progress], Awaitable[None]]
_STEPS_KEPT = 64


async def ensure_installed(images: Store, name: str, report: Report) -> None:
    """Pull an environment that is not installed yet. Raises as `pull_environment` does."""
    if not store.inspect(images, name).installed:
        async with _relay(report) as tell:
            await pull.pull(images, name, debian.source(), tell, only_if_missing=True)


async def pull_environment(images: Store, name: str, source: str | None, report: Report) -> EnvironmentInfo:
    """Install an environment, or renew one; `source` is another Debian mirror than the host's own.

    Raises `NotFound`, `HostUnfit`, `SourceFailed`; whatever was installed before stays until the new one is complete.
    """
    async with _relay(report) as tell:
        return await pull.pull(images, name, debian.source(source), tell)


@asynccontextmanager
async def _relay(report: Report) -> AsyncIterator[Callable[[Progress], None]]:
    """A way to report without waiting, for work that must not be held up by whoever watches it.

    A watcher that is slow sees fewer steps, but always the newest.
    """
    steps: asyncio.Queue[Progress | None] = asyncio.Queue(_STEPS_KEPT)

    def tell(progress: Progress) -> None:
        if steps.full():
            steps.get_nowait()
        steps.put_nowait(progress)

    async def forward() -> None:
        while (progress := await steps.get()) is not None:
            await report(progress)

    forwarding = asyncio.create_task(forward())
    try:
        yield tell
        await steps.put(None)
        await forwarding
    finally:
        await tasks.end(forwarding)
