"""Requests about workspaces that no client of ours would make, and clients that leave."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.daemon import workspace_routes
from pyro_mcp.daemon.abort import Abort
from pyro_mcp.daemon.client import DaemonClient
from pyro_mcp.errors import InvalidRequest, NotFound, PyroError
from pyro_mcp.workspace import files, sync
from tests.support.fake_workspaces import ENDED, FakeWorkspaces
from tests.support.served import served
from tests.support.waiting import until

W = "/v1/workspaces/demo"
EXEC = f"{W}/execs/{ENDED.exec_id}"


@pytest.fixture
async def engine() -> FakeWorkspaces:
    return FakeWorkspaces()


@pytest.fixture
async def client(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, engine: FakeWorkspaces
) -> AsyncIterator[DaemonClient]:
    """A client of a server with this engine."""
    async with served(settings, monkeypatch, workspaces=engine) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/workspaces", {}),
        ("/v1/workspaces", {"environment": "debian:12", "labels": {"a": 1}}),
        ("/v1/workspaces", {"environment": "debian:12", "secrets": {}}),
        ("/v1/workspaces/prune", {"dry_run": 1}),
        (f"{W}/update", {"labels": []}),
        (f"{W}/reset", {"snapshot": None}),
        (f"{W}/restore", {"name": 1}),
        (f"{W}/sync", {}),
        (f"{W}/export", {"path": "."}),
        (f"{W}/files/list", {"path": 1}),
        (f"{W}/files/read", {}),
        (f"{W}/files/write", {"path": "a", "data": "not base64!"}),
        (f"{W}/patch", []),
        (f"{W}/diff", {"max_bytes": "x"}),
        (f"{W}/execs", {"command": "ls"}),
        (f"{W}/execs/wait", {"command": ["ls"], "wait_seconds": 1.5}),
        (f"{EXEC}/wait", {"wait_seconds": None}),
        (f"{EXEC}/output", {"offset": "0"}),
        (f"{EXEC}/signal", {}),
    ],
)
async def test_bad_bodies(
    client: DaemonClient, engine: FakeWorkspaces, monkeypatch: pytest.MonkeyPatch, path: str, body: object
) -> None:
    await engine.runner.start(None)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest) as caught:
        await asyncio.to_thread(client.ask, "POST", path, body)
    assert caught.value.code == "bad_request"
    assert engine.asked == []


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", f"{W}/execs/x-000000", "unknown_command"),
        ("GET", "/v1/workspaces/nobody/execs", "unknown_workspace"),
        ("POST", f"{W}/execs/x-000000/signal", "unknown_command"),
        ("POST", f"{W}/execs/x-000000/stdin", "unknown_command"),
        ("POST", "/v1/workspaces/nobody/diff", "unknown_workspace"),
    ],
)
async def test_what_is_not_there(client: DaemonClient, method: str, path: str, code: str) -> None:
    with pytest.raises(NotFound) as caught:
        await asyncio.to_thread(client.ask, method, path, {"signal": 15} if path.endswith("signal") else None)
    assert caught.value.code == code


async def test_a_command_of_a_machine_that_does_not_run(
    client: DaemonClient, engine: FakeWorkspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.live = False
    assert (await asyncio.to_thread(client.ask, "POST", f"{EXEC}/cancel"))["exec_id"] == ENDED.exec_id
    assert (await asyncio.to_thread(client.ask, "GET", EXEC))["exit_code"] == 3
    with pytest.raises(NotFound) as caught:
        await asyncio.to_thread(client.ask, "POST", f"{EXEC}/signal", {"signal": 15})
    assert caught.value.code == "command_not_running"


async def test_a_command_that_runs_is_told_of_with_the_figures_of_the_moment(
    client: DaemonClient, engine: FakeWorkspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.runner.waits = True
    await engine.runner.start(None)  # type: ignore[arg-type]
    told = await asyncio.to_thread(client.ask, "GET", EXEC)
    assert (told["status"], told["exit_code"], told["duration_ms"], told["output_bytes"]) == ("running", None, 50, 7)


async def test_a_number_that_is_no_signal(
    client: DaemonClient, engine: FakeWorkspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = await engine.runner.start(None)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest) as caught:
        await asyncio.to_thread(client.ask, "POST", f"{EXEC}/signal", {"signal": 65})
    assert caught.value.code == "bad_signal"
    assert command.signals == []


async def test_files_may_be_larger_than_other_requests(
    client: DaemonClient, engine: FakeWorkspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = {"path": "a", "data": "A" * (65 << 20)}
    for path, body in ((f"{W}/files/write", large), (f"{W}/files/read", {"path": "A" * (5 << 20)})):
        with pytest.raises(InvalidRequest, match="larger than") as caught:
            await asyncio.to_thread(client.ask, "POST", path, body)
        assert caught.value.code == "bad_request"


def _forever(begun: asyncio.Event, left: asyncio.Event) -> Callable[..., Awaitable[Any]]:
    async def feature(*_: object) -> None:
        begun.set()
        try:
            await asyncio.Future()
        finally:
            left.set()

    return feature


@pytest.mark.parametrize(
    "what",
    [
        (f"{W}/files/list", {}, files, "list_files"),
        (f"{W}/files/read", {"path": "a"}, files, "read_file"),
        (f"{W}/files/write", {"path": "a", "data": ""}, files, "write_file"),
        (f"{W}/patch", {"patch": "x"}, workspace_routes, "apply_patch"),
        (f"{W}/diff", {}, workspace_routes, "diff"),
        (f"{W}/sync", {"source": "/a"}, sync, "push"),
    ],
)
async def test_what_a_client_that_leaves_had_asked_for_is_not_done_for_nobody(
    client: DaemonClient, engine: FakeWorkspaces, monkeypatch: pytest.MonkeyPatch, what: tuple[str, object, object, str]
) -> None:
    path, body, module, name = what
    begun, left = asyncio.Event(), asyncio.Event()
    monkeypatch.setattr(module, name, _forever(begun, left))
    async with Asking(client, path, body):
        await begun.wait()
        assert engine.held == 1
    async with asyncio.timeout(30):
        await left.wait()
    await until(lambda: engine.held == 0)


async def test_a_command_whose_client_leaves_before_it_is_followed_is_cancelled(
    client: DaemonClient, engine: FakeWorkspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.runner.waits = True
    for path in (f"{W}/execs", f"{W}/execs/wait"):
        async with Asking(client, path, {"command": ["sleep"]}):
            await until(lambda: bool(engine.runner.commands))
        async with asyncio.timeout(30):
            await engine.runner.commands.pop().cancelled.wait()


class Asking:
    """A request whose client leaves at the end of the block."""

    def __init__(self, client: DaemonClient, path: str, body: object) -> None:
        self._abort = Abort()
        self._client = client.abortable(self._abort)
        self._path, self._body = path, body

    async def __aenter__(self) -> None:
        self._asking = asyncio.create_task(asyncio.to_thread(self._ask))

    async def __aexit__(self, *_: object) -> None:
        self._abort.abort()
        with pytest.raises(PyroError, match="daemon ended"):
            await self._asking

    def _ask(self) -> None:
        self._client.ask("POST", self._path, self._body)
