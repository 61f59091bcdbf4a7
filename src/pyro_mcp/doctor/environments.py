"""Environments: which are installed, and does one of them run a command?"""

import asyncio
from collections.abc import Sequence

from pyro_mcp.doctor import kvm
from pyro_mcp.doctor.report import Row, failed, failed_with, listed, passed, warning
from pyro_mcp.doctor.shared import Shared
from pyro_mcp.errors import PyroError
from pyro_mcp.events import Event, OutputChunk
from pyro_mcp.images import catalog, store
from pyro_mcp.models import EnvironmentInfo, RunFinished, RunRequest
from pyro_mcp.workspace.control import RunControl
from pyro_mcp.workspace.throwaway import run_in_vm

NAME = "environments"
NAME_OF_RUN = "environment"
SECONDS = kvm.SECONDS + 0.5  # the run begins when it is known whether KVM works, which takes up to eight
_PROOF = ("true",)


async def examine(shared: Shared) -> Row:
    return row_for(await asyncio.to_thread(store.list_environments, shared.images))


def row_for(environments: Sequence[EnvironmentInfo]) -> Row:
    installed = [environment.name for environment in environments if environment.installed]
    found = f"{listed(installed)} installed" if installed else "none is installed yet"
    if catalog.DEFAULT not in installed:
        return warning(NAME, found, f"pyro env pull {catalog.DEFAULT}")
    return passed(NAME, found)


async def examine_run(shared: Shared, name: str) -> Row:
    """Run `true` in an environment that is installed; a pull would take longer than a doctor may."""
    if not store.inspect(shared.images, name).installed:
        return warning(NAME_OF_RUN, f"{name} is not installed, so nothing was run in it", f"pyro env pull {name}")
    try:
        finished = await _run(shared, RunRequest(name, _PROOF))
    except PyroError as error:
        return failed_with(NAME_OF_RUN, error)
    if finished.exit_code != 0:
        found = f"`true` ended with code {finished.exit_code} in {name}"
        return failed(NAME_OF_RUN, found, f"pyro env pull {name}")
    return passed(NAME_OF_RUN, f"{name} ran a command in a VM of its own in {finished.duration_ms} ms")


async def _run(shared: Shared, request: RunRequest) -> RunFinished:
    ends: list[RunFinished] = []

    async def note(event: Event | OutputChunk) -> None:
        if isinstance(event, RunFinished):
            ends.append(event)

    await run_in_vm(await shared.host(), request, RunControl(), note)
    return ends[0]
