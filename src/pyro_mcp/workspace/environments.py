"""Environments as features use them: installed before use, pulled when asked."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from pyro_mcp import tasks
from pyro_mcp.errors import HostUnfit
from pyro_mcp.images import debian, prune, pull, store
from pyro_mcp.images.store import Store
from pyro_mcp.models import EnvironmentInfo, Progress, PruneReport, TemplateInfo
from pyro_mcp.workspace import template_use
from pyro_mcp.workspace.host import FindHost
from pyro_mcp.workspace.templates import FOLDER, Templates

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


async def inspect_environment(
    images: Store, templates: Templates | None, find_host: FindHost, name: str
) -> EnvironmentInfo:
    """One environment, with the packages inside and the templates of its machines. Raises `NotFound`.

    Those that are there are told where they are off, too.
    """
    info = await asyncio.to_thread(store.inspect, images, name)
    every = await asyncio.to_thread((templates or _templates(images)).infos)
    its = [each for each in every if _may_be_of(each, info)]
    return replace(info, templates=await template_use.marked(its, find_host, off=templates is None))


def _may_be_of(template: TemplateInfo, info: EnvironmentInfo) -> bool:
    facts = template.facts
    return facts is None or facts.environment == info.name or (facts.digest or "") == info.digest


async def prune_environments(images: Store, templates: Templates | None, *, dry_run: bool) -> PruneReport:
    """Remove what nothing uses, and all templates, or with `dry_run` only say what that would be.

    Those that are there go where they are off, too, and before anything else: on a full disk what follows has some room
    then. Raises `HostUnfit` where something cannot be removed, after all that can be.
    """
    reports, failed = list[PruneReport](), list[HostUnfit]()
    for step in ((templates or _templates(images)).prune, partial(prune.prune, images)):
        try:
            reports.append(await step(dry_run=dry_run))
        except HostUnfit as error:
            failed.append(error)
    removed = tuple(name for report in reversed(reports) for name in report.removed)
    report = PruneReport(removed, sum(report.freed_bytes for report in reports), dry_run)
    if failed:
        raise prune.partly(failed[0], report) from failed[0]
    return report


def _templates(images: Store) -> Templates:
    """Those in the cache, for a daemon that uses none."""
    return Templates(images.cache_dir / FOLDER)


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
