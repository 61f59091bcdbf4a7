"""The API answers every request, right or wrong, with a result or an error that has a code."""

import asyncio
import os
from dataclasses import replace

import pytest
from starlette.types import ASGIApp

from pyro_mcp import __version__
from pyro_mcp.config import Settings
from pyro_mcp.daemon.app import Daemon, create_app
from pyro_mcp.errors import NotFound
from pyro_mcp.images.catalog import CATALOG
from tests.unit.daemon.asking import ask
from tests.unit.daemon.scripted_run import begun, holding


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
    "name", ["debian:13", "debian/12", "../../etc", "", "prune", "%00", "a%2Fpull", "a%250Ab", "é", "x" * 5000]
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
    stopped, end = asyncio.Event(), holding(monkeypatch)
    app = create_app(replace(daemon, stop=stopped.set))
    running, _ = await begun(app, daemon)
    assert (await ask(app, "GET", "/v1/hello")).json["active"] == 1
    answer = await ask(app, "POST", "/v1/shutdown")
    assert (answer.status, answer.code) == (409, "daemon_busy")
    assert not stopped.is_set()
    end.set()
    await running
    assert (await ask(app, "POST", "/v1/shutdown")).status == 200
