"""The daemon's server inside the test's own event loop, with runs that the test scripts."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from unittest.mock import AsyncMock

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.daemon import app, serve
from pyro_mcp.daemon.client import DaemonClient
from pyro_mcp.daemon.place import DaemonPlace
from pyro_mcp.daemon.streaming import Emit
from pyro_mcp.models import RunRequest
from pyro_mcp.workspace.control import RunControl
from tests.support.fake_workspaces import FakeWorkspaces

Run = Callable[[RunRequest, RunControl, Emit], Awaitable[None]]


async def _no_run(_request: RunRequest, _control: RunControl, _emit: Emit) -> None:
    raise AssertionError("nothing is to be run")


@asynccontextmanager
async def served(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, run: Run = _no_run, workspaces: FakeWorkspaces | None = None
) -> AsyncIterator[DaemonClient]:
    """A server whose runs are `run` instead of a machine, and whose workspaces are `workspaces` instead of real ones.

    Clients must be called from other threads.
    """

    async def scripted(_host: object, request: RunRequest, control: RunControl, emit: Emit) -> None:
        await run(request, control, emit)

    monkeypatch.setattr(app, "run_in_vm", scripted)
    monkeypatch.setattr(serve, "verified_host", AsyncMock(return_value=SimpleNamespace(templates=None)))
    monkeypatch.setattr(serve, "Workspaces", lambda *_: FakeWorkspaces() if workspaces is None else workspaces)
    place = DaemonPlace(settings.home)
    place.prepare()
    client = DaemonClient(settings)
    with place.listen() as listener:
        serving = asyncio.create_task(serve._serve(settings, listener))
        try:
            yield client
        finally:
            await _end(client, serving)


async def _end(client: DaemonClient, serving: "asyncio.Task[None]") -> None:
    """In order also where the test fails, so that connections are closed."""
    try:
        await asyncio.to_thread(client.stop)
        async with asyncio.timeout(30):
            await serving
    finally:
        serving.cancel()
        await asyncio.wait((serving,))
        client.close()
