"""That a machine boots because its template was no good is told to whoever waits for it, once; the guests are fake."""

import socket
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from pyro_mcp.models import NOTICE, Progress
from pyro_mcp.workspace import boot
from pyro_mcp.workspace.boot import boot_guest
from pyro_mcp.workspace.engine import Workspaces
from pyro_mcp.workspace.environments import Report
from pyro_mcp.workspace.templates import Templates
from pyro_mcp.workspace_models import CreateWorkspace, ResetWorkspace
from tests.support.fake_agent import AgentStream
from tests.support.fake_kept import Engine
from tests.support.fake_machine import Guest, answering, dead
from tests.support.fake_templates import Place

DEBIAN = CreateWorkspace("debian:12")


@pytest.fixture
async def workspaces(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Workspaces]:
    """Those of a host with a template from which the next machine does not begin."""
    monkeypatch.setattr(boot, "_READY_SECONDS", 0.2)
    engine.templates = True
    async with engine.open() as opened:
        yield opened


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def report(told: list[str]) -> Report:
    async def report(step: Progress) -> None:
        if step.phase == NOTICE:
            told.append(step.detail)

    return report


async def test_who_creates_a_workspace(engine: Engine, workspaces: Workspaces, report: Report, told: list[str]) -> None:
    engine.boots.mute = 1
    workspace = (await workspaces.create(DEBIAN, report)).workspace_id
    async with workspaces.using(workspace, report):
        pass
    assert told == [boot.TEMPLATE_GONE]
    assert len(engine.discarded) == 1


async def test_who_uses_a_workspace_first_after_its_reset(
    engine: Engine, workspaces: Workspaces, report: Report, told: list[str]
) -> None:
    workspace = (await workspaces.create(DEBIAN, report)).workspace_id
    engine.boots.mute = 1
    await workspaces.reset(workspace, ResetWorkspace("baseline"))
    assert told == []
    for _ in range(2):
        async with workspaces.using(workspace, report):
            pass
    assert told == [boot.TEMPLATE_GONE]


@pytest.mark.usefixtures("disks")
async def test_who_runs_a_command_in_a_machine_of_its_own(place: Place) -> None:
    assert await _told_of_two_runs(place, dead, place.daemon()) == [boot.TEMPLATE_GONE]


@pytest.mark.usefixtures("disks")
async def test_nobody_of_a_template_that_was_removed_meanwhile(place: Place) -> None:
    templates = place.daemon()

    async def pruned(ours: socket.socket) -> None:
        await templates.prune(dry_run=False)
        ours.close()

    assert await _told_of_two_runs(place, pruned, templates) == []


async def _told_of_two_runs(place: Place, first: Guest, templates: Templates) -> list[str]:
    told: list[str] = []

    async def tell(text: str) -> None:
        told.append(text)

    place.boots.guests = [first, answering(_pong)]
    host = replace(place.host, templates=templates)
    for _ in range(2):
        async with boot_guest(host, place.image, vcpu_count=1, mem_mib=512, tell=tell) as guest:
            await guest.client.ping()
    return told


async def _pong(stream: AgentStream) -> None:
    await stream.request()
    await stream.say(type="pong")
