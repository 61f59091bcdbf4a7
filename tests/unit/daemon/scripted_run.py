"""Runs in which a script stands for the machine."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import ASGIApp

from pyro_mcp import models
from pyro_mcp.daemon import app as app_module
from pyro_mcp.daemon.app import Daemon
from pyro_mcp.daemon.streaming import Emit
from pyro_mcp.models import RunRequest
from pyro_mcp.workspace.control import RunControl
from tests.support.waiting import until
from tests.unit.daemon.asking import Answer, ask

RUN = models.encode(RunRequest("debian:12", ("true",), stdin=True))


def script(monkeypatch: pytest.MonkeyPatch, run: Callable[[RunControl], Awaitable[None]]) -> None:
    """Have `run` stand for the machine."""

    async def scripted(_host: object, _request: RunRequest, control: RunControl, _emit: Emit) -> None:
        await run(control)

    monkeypatch.setattr(app_module, "run_in_vm", scripted)


def holding(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Have every run last until the event is set, with no command in it."""
    end = asyncio.Event()

    async def run(_control: RunControl) -> None:
        await end.wait()

    script(monkeypatch, run)
    return end


async def begun(app: ASGIApp, daemon: Daemon, **changes: object) -> tuple[asyncio.Task[Answer], str]:
    """A run that has been asked for, and its id."""
    running = asyncio.create_task(ask(app, "POST", "/v1/runs", {**RUN, **changes}))
    await until(lambda: bool(daemon.runs))
    (run_id,) = daemon.runs
    return running, run_id
