"""The daemon knows which chat hosts are connected, and none of them keeps it from anything."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pyro_mcp import __version__, models
from pyro_mcp.config import Settings
from pyro_mcp.daemon.http import Answer, Connection
from pyro_mcp.daemon.place import DaemonPlace
from pyro_mcp.daemon.requests import begin
from pyro_mcp.errors import Conflict, InvalidRequest
from pyro_mcp.models import ChatHost
from tests.support.fake_workspaces import FakeWorkspaces
from tests.support.served import served
from tests.support.waiting import until


def connected(settings: Settings, /, **changes: object) -> tuple[Connection, Answer]:
    connection = Connection(DaemonPlace(settings.home).connect())
    host = models.encode(ChatHost(__version__, settings.describe(), 1))
    try:
        return connection, begin(connection, "POST", "/v1/chats", {**host, **changes})
    except BaseException:
        connection.close()
        raise


@asynccontextmanager
async def a_chat(settings: Settings, pool: int = 1) -> AsyncIterator[Answer]:
    connection, answer = await asyncio.to_thread(connected, settings, pool=pool)
    try:
        yield answer
    finally:
        connection.close()


async def test_as_many_machines_are_wanted_as_the_most_demanding_chat_host_wants(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspaces = FakeWorkspaces()
    wanted = workspaces.pool.wanted
    async with served(settings, monkeypatch, workspaces=workspaces):
        async with a_chat(settings, pool=3):
            async with a_chat(settings, pool=1):
                await until(lambda: wanted == [(3, True), (3, True)])
            await until(lambda: wanted[2:] == [(3, False)])
        await until(lambda: wanted[3:] == [(0, False)])


async def test_a_chat_host_is_no_request_under_way(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(settings, monkeypatch) as client, a_chat(settings) as answer:
        assert (await asyncio.to_thread(client.ask, "GET", "/v1/hello"))["active"] == 0
        assert await asyncio.to_thread(client.stop), "it would have been a conflict"
        assert await asyncio.to_thread(answer.read) == b""  # told in order that the daemon ends


@pytest.mark.parametrize(
    ("changes", "error", "code"),
    [
        ({"version": "0.0.1"}, Conflict, "other_daemon"),
        ({"settings": "others"}, Conflict, "other_daemon"),
        ({"pool": 5}, InvalidRequest, "bad_request"),
        ({"pool": -1}, InvalidRequest, "bad_request"),
        ({"pool": "1"}, InvalidRequest, "bad_request"),
    ],
)
async def test_who_does_not_belong_to_this_daemon_is_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], error: type[Exception], code: str
) -> None:
    workspaces = FakeWorkspaces()
    async with served(settings, monkeypatch, workspaces=workspaces):
        with pytest.raises(error) as caught:
            await asyncio.to_thread(lambda: connected(settings, **changes))
    assert caught.value.code == code  # type: ignore[attr-defined]
    assert workspaces.pool.wanted == []


@pytest.mark.parametrize("dry_run", [True, False])
async def test_pruning_ends_the_machines_that_are_ready(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, dry_run: bool
) -> None:
    workspaces = FakeWorkspaces()
    async with served(settings, monkeypatch, workspaces=workspaces) as client:
        await asyncio.to_thread(client.ask, "POST", "/v1/environments/prune", {"dry_run": dry_run})
    assert workspaces.pool.rests == (0 if dry_run else 1)
