"""The API answers every request, right or wrong, with a result or an error that has a code."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from unittest.mock import AsyncMock
from urllib.parse import unquote

import pytest
from starlette.types import ASGIApp

from pyro_mcp import __version__, models
from pyro_mcp.config import Settings
from pyro_mcp.daemon import app as app_module
from pyro_mcp.daemon.activity import Activity
from pyro_mcp.daemon.app import Daemon, create_app
from pyro_mcp.daemon.streaming import Emit
from pyro_mcp.errors import GuestFailed, NotFound
from pyro_mcp.events import event_from_json
from pyro_mcp.guest.frames import FrameDecoder, Message
from pyro_mcp.images.catalog import CATALOG
from pyro_mcp.images.store import Store
from pyro_mcp.models import RunAccepted, RunRequest
from pyro_mcp.workspace.control import RunControl
from pyro_mcp.workspace.engine import Workspaces
from pyro_mcp.workspace.host import default_boot_slots, verified_host
from pyro_mcp.workspace.vmm_choice import VmmChoice
from tests.support.waiting import until

RUN = models.encode(RunRequest("debian:12", ("true",), stdin=True))


@dataclass
class Answer:
    """What a request got."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["code"])

    def raised(self) -> BaseException:
        """The error that the last event of a stream stands for."""
        assert self.status == 200
        last = list(FrameDecoder().feed(self.body))[-1]
        assert isinstance(last, Message)
        with pytest.raises(Exception) as caught:  # noqa: PT011  (which one is the caller's question)
            event_from_json(last.content)
        return caught.value


Ask = Callable[..., Awaitable[Answer]]


async def ask(
    app: ASGIApp, method: str, path: str, body: object = None, parts: Iterable[bytes] | None = None
) -> Answer:
    """One request; `parts` is a raw body that comes piece by piece."""
    pieces = list(parts) if parts is not None else [b"" if body is None else json.dumps(body).encode()]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if not pieces:
            return await asyncio.Future()
        await asyncio.sleep(0)
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
    }
    await app(scope, receive, send)
    body_sent = b"".join(message.get("body", b"") for message in sent)
    return Answer(sent[0]["status"], body_sent)


@pytest.fixture
async def daemon(settings: Settings) -> Daemon:
    stopped = asyncio.Event()
    images = Store(settings.cache_dir)
    find_host = AsyncMock(return_value=None)
    workspaces = Workspaces(settings.home, images, AsyncMock())
    return Daemon(settings, Activity(stopped.set), stopped.set, images, find_host, workspaces=workspaces)


@pytest.fixture
def app(daemon: Daemon) -> ASGIApp:
    return create_app(daemon)


def _script(monkeypatch: pytest.MonkeyPatch, run: Callable[[RunControl, Emit], Awaitable[None]]) -> None:
    """Have `run` stand for the machine."""

    async def scripted(_host: object, _request: RunRequest, control: RunControl, emit: Emit) -> None:
        await run(control, emit)

    monkeypatch.setattr(app_module, "run_in_vm", scripted)


class Command:
    """Takes input and signals as a guest's command would."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.signals: list[int] = []
        self.ended = asyncio.Event()

    async def write_stdin(self, data: bytes) -> None:
        assert len(data) <= 1 << 20
        self.taken.append(data)

    async def close_stdin(self) -> None:
        self.ended.set()

    async def signal(self, number: int) -> None:
        self.signals.append(number)


async def test_hello_tells_who_answers(app: ASGIApp, settings: Settings) -> None:
    answer = await ask(app, "GET", "/v1/hello")
    assert answer.status == 200
    assert answer.json == {
        "version": __version__,
        "settings": settings.describe(),
        "pid": os.getpid(),
        "active": 0,
    }
    assert (await ask(app, "GET", "/v1/ready")).json == {"machines": []}


async def test_the_catalog_is_listed_with_nothing_installed(app: ASGIApp) -> None:
    listed = (await ask(app, "GET", "/v1/environments")).json
    assert [info["name"] for info in listed] == [environment.name for environment in CATALOG]
    assert not any(info["installed"] for info in listed)


async def test_one_environment(app: ASGIApp) -> None:
    answer = await ask(app, "GET", "/v1/environments/debian:12")
    assert (answer.json["name"], answer.json["installed"]) == ("debian:12", False)


@pytest.mark.parametrize(
    "name", ["debian:13", "debian/12", "../../etc", "", "prune", "%00", "a%2Fpull", "é", "x" * 5000]
)
async def test_an_unknown_environment_is_an_error_with_a_code_whatever_it_is_called(app: ASGIApp, name: str) -> None:
    answer = await ask(app, "GET", f"/v1/environments/{name}")
    assert (answer.status, answer.code) == (404, "unknown_environment")


async def test_the_nearest_environment_is_shown(app: ASGIApp) -> None:
    answer = await ask(app, "GET", "/v1/environments/debian-12")
    assert "debian:12" in answer.json["hint"]


@pytest.mark.parametrize("name", ["debian:13", "debian/12", ""])
async def test_pulling_an_unknown_environment(app: ASGIApp, name: str) -> None:
    error = (await ask(app, "POST", f"/v1/environments/{name}/pull", {})).raised()
    assert isinstance(error, NotFound)
    assert error.code == "unknown_environment"


@pytest.mark.parametrize("dry_run", [True, False])
async def test_pruning_an_empty_store(app: ASGIApp, dry_run: bool) -> None:
    answer = await ask(app, "POST", "/v1/environments/prune", {"dry_run": dry_run})
    assert answer.json == {"removed": [], "freed_bytes": 0, "dry_run": dry_run}


async def test_a_body_may_be_left_out_where_everything_has_a_default(app: ASGIApp) -> None:
    assert (await ask(app, "POST", "/v1/environments/prune")).status == 200


@pytest.mark.parametrize("path", ["/v1/runs", "/v1/environments/prune", "/v1/environments/debian:12/pull"])
@pytest.mark.parametrize(
    "body",
    [b"{", b"nonsense", b"\xff\xfe", b"[]", b'"x"', b"null", b'{"unheard": 1}', b"[" * 100_000, b'{"a":' * 100_000],
    ids=lambda body: repr(body[:12]),
)
async def test_bad_bodies_are_errors_with_a_code(app: ASGIApp, path: str, body: bytes) -> None:
    answer = await ask(app, "POST", path, parts=[body])
    assert (answer.status, answer.code) == (400, "bad_request")


async def test_a_body_in_pieces_is_put_together(app: ASGIApp) -> None:
    answer = await ask(app, "POST", "/v1/environments/prune", parts=[b'{"dry', b'_run"', b": tr", b"ue}"])
    assert answer.json["dry_run"] is True


async def test_an_oversized_body_is_refused_while_it_comes(app: ASGIApp) -> None:
    pieces = [b" " * (1 << 20)] * 100
    answer = await ask(app, "POST", "/v1/runs", parts=pieces)
    assert (answer.status, answer.code) == (400, "bad_request")
    assert "larger" in answer.json["message"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"command": []}, "no_command"),
        ({"command": [""]}, "no_command"),
        ({"command": ["a\0b"]}, "bad_command"),
        ({"network": True}, "network_unsupported"),
        ({"vcpu_count": 0}, "out_of_range"),
        ({"mem_mib": 1}, "out_of_range"),
        ({"timeout_seconds": 0}, "out_of_range"),
        ({"ttl_seconds": 0}, "out_of_range"),
        ({"environment": "debian:13"}, "unknown_environment"),
    ],
)
async def test_a_run_that_cannot_be_is_refused_with_a_code(
    daemon: Daemon, changes: dict[str, object], code: str
) -> None:
    """At once: finding out how machines run here may take a proof of seconds."""
    find_host = AsyncMock()
    app = create_app(replace(daemon, find_host=find_host))
    error = (await ask(app, "POST", "/v1/runs", {**RUN, **changes})).raised()
    assert getattr(error, "code", None) == code
    assert daemon.runs == {}
    find_host.assert_not_awaited()


async def test_without_a_runtime_bundle_a_run_says_so(daemon: Daemon, settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    elsewhere = Settings(settings.home, settings.cache_dir, settings.home, "auto")
    choice = VmmChoice(elsewhere, confined=True)
    find_host = partial(verified_host, elsewhere, daemon.images, default_boot_slots(), choice)
    app = create_app(replace(daemon, find_host=find_host))
    error = (await ask(app, "POST", "/v1/runs", RUN)).raised()
    assert getattr(error, "code", None) == "no_runtime_bundle"


@pytest.mark.parametrize("way", ["stdin", "signal"])
async def test_a_run_that_nobody_knows(app: ASGIApp, way: str) -> None:
    answer = await ask(app, "POST", f"/v1/runs/nobody/{way}", {"signal": 15})
    assert (answer.status, answer.code) == (404, "unknown_run")


async def test_input_and_signals_reach_the_command_of_the_run_that_they_are_addressed_to(
    app: ASGIApp, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = Command()

    async def run(control: RunControl, _emit: Emit) -> None:
        control.attach(command)  # type: ignore[arg-type]
        await command.ended.wait()

    _script(monkeypatch, run)
    running = asyncio.create_task(ask(app, "POST", "/v1/runs", RUN))
    await until(lambda: bool(daemon.runs))
    (run_id,) = daemon.runs
    assert (await ask(app, "POST", f"/v1/runs/{run_id}/signal", {"signal": 15})).status == 200
    big = bytes(range(256)) * 8192  # two frames' worth
    assert (await ask(app, "POST", f"/v1/runs/{run_id}/stdin", parts=[b"first", b"", big])).status == 200
    answer = await running
    assert command.signals == [15]
    assert b"".join(command.taken) == b"first" + big
    assert b"" not in command.taken  # that would be the end
    first = next(FrameDecoder().feed(answer.body))
    assert isinstance(first, Message)
    assert event_from_json(first.content) == RunAccepted(run_id)
    assert daemon.runs == {}


async def test_a_run_without_input_takes_none(app: ASGIApp, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    end = asyncio.Event()
    _script(monkeypatch, lambda _control, _emit: _none(end))
    running = asyncio.create_task(ask(app, "POST", "/v1/runs", {**RUN, "stdin": False}))
    await until(lambda: bool(daemon.runs))
    (run_id,) = daemon.runs
    answer = await ask(app, "POST", f"/v1/runs/{run_id}/stdin", parts=[b"input"])
    assert (answer.status, answer.code) == (400, "no_input")
    end.set()
    await running


@pytest.mark.parametrize("number", [0, 65, -1, 2**40])
async def test_a_number_that_is_no_signal(
    app: ASGIApp, daemon: Daemon, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    end = asyncio.Event()
    _script(monkeypatch, lambda _control, _emit: _none(end))
    running = asyncio.create_task(ask(app, "POST", "/v1/runs", RUN))
    await until(lambda: bool(daemon.runs))
    (run_id,) = daemon.runs
    answer = await ask(app, "POST", f"/v1/runs/{run_id}/signal", {"signal": number})
    assert (answer.status, answer.code) == (400, "bad_signal")
    end.set()
    await running


async def _none(end: asyncio.Event) -> None:
    await end.wait()


@pytest.mark.parametrize("way", ["stdin", "signal"])
@pytest.mark.parametrize("fails", [True, False])
async def test_whoever_waits_for_a_command_that_never_starts_is_turned_away(
    app: ASGIApp, daemon: Daemon, monkeypatch: pytest.MonkeyPatch, way: str, fails: bool
) -> None:
    end = asyncio.Event()

    async def run(_control: RunControl, _emit: Emit) -> None:
        await end.wait()
        if fails:
            raise GuestFailed("guest_silent", "it did not boot")

    _script(monkeypatch, run)
    running = asyncio.create_task(ask(app, "POST", "/v1/runs", RUN))
    await until(lambda: bool(daemon.runs))
    (run_id,) = daemon.runs
    waiting = asyncio.create_task(ask(app, "POST", f"/v1/runs/{run_id}/{way}", {"signal": 15}))
    await until(lambda: daemon.activity.active == 2)
    end.set()
    answer = await asyncio.wait_for(waiting, 30)
    assert (answer.status, answer.code) == (404, "unknown_run")
    await running
    assert daemon.activity.active == 0


async def test_a_client_that_goes_away_in_the_middle_of_its_input_ends_the_input(
    app: ASGIApp, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = Command()

    async def run(control: RunControl, _emit: Emit) -> None:
        control.attach(command)  # type: ignore[arg-type]
        await command.ended.wait()

    _script(monkeypatch, run)
    running = asyncio.create_task(ask(app, "POST", "/v1/runs", RUN))
    await until(lambda: bool(daemon.runs))
    (run_id,) = daemon.runs
    events: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"half", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return events.pop(0)

    async def send(_message: Any) -> None:
        pass

    path = f"/v1/runs/{run_id}/stdin"
    await app({"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b""}, receive, send)
    await running
    assert command.taken == [b"half"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/v2/hello", 404), ("POST", "/v1/hello", 405), ("DELETE", "/v1/runs", 405)],
)
async def test_what_the_api_does_not_have(app: ASGIApp, method: str, path: str, status: int) -> None:
    assert (await ask(app, method, path)).status == status


async def test_shutdown_ends_an_idle_daemon(daemon: Daemon, settings: Settings) -> None:
    stopped = asyncio.Event()
    app = create_app(replace(daemon, stop=stopped.set))
    assert (await ask(app, "POST", "/v1/shutdown")).status == 200
    assert stopped.is_set()


async def test_shutdown_is_refused_while_something_is_under_way(
    daemon: Daemon, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped, end = asyncio.Event(), asyncio.Event()
    app = create_app(replace(daemon, stop=stopped.set))
    _script(monkeypatch, lambda _control, _emit: _none(end))
    running = asyncio.create_task(ask(app, "POST", "/v1/runs", RUN))
    await until(lambda: daemon.activity.active == 1)
    assert (await ask(app, "GET", "/v1/hello")).json["active"] == 1
    answer = await ask(app, "POST", "/v1/shutdown")
    assert (answer.status, answer.code) == (409, "daemon_busy")
    assert not stopped.is_set()
    end.set()
    await running
    assert (await ask(app, "POST", "/v1/shutdown")).status == 200


async def test_an_error_of_the_guest_is_ours(app: ASGIApp, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise GuestFailed("guest_gone", "it went away")

    command = Command()
    monkeypatch.setattr(command, "signal", fail)
    end = asyncio.Event()

    async def run(control: RunControl, _emit: Emit) -> None:
        control.attach(command)  # type: ignore[arg-type]
        await end.wait()

    _script(monkeypatch, run)
    running = asyncio.create_task(ask(app, "POST", "/v1/runs", RUN))
    await until(lambda: bool(daemon.runs))
    (run_id,) = daemon.runs
    answer = await ask(app, "POST", f"/v1/runs/{run_id}/signal", {"signal": 15})
    assert (answer.status, answer.code) == (500, "guest_gone")
    end.set()
    await running


async def test_input_for_a_run_without_input_is_refused(
    app: ASGIApp, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = asyncio.Event()

    async def run(_control: RunControl, _emit: Emit) -> None:
        await end.wait()

    _script(monkeypatch, run)
    running = asyncio.create_task(ask(app, "POST", "/v1/runs", {**RUN, "stdin": False}))
    await until(lambda: bool(daemon.runs))
    (run_id,) = daemon.runs
    answer = await asyncio.wait_for(ask(app, "POST", f"/v1/runs/{run_id}/stdin"), 30)
    end.set()
    await running
    assert (answer.status, answer.code) == (400, "no_input")
