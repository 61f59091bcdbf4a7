"""The local API: which request goes where.

GET  /v1/hello                          who answers here
POST /v1/runs                           one command in a throwaway machine; streams events
POST /v1/runs/{id}/stdin                input for its command, as the body comes; the body's end is the input's end
POST /v1/runs/{id}/signal               {"signal": 15}, to its command's process group
GET  /v1/environments                   the catalog and what is installed
GET  /v1/environments/{name}            one of them, with its packages
POST /v1/environments/{name}/pull       {"source": null}; streams progress
POST /v1/environments/prune             {"dry_run": false}
POST /v1/shutdown                       end the daemon if it has nothing to do
"""

import asyncio
import contextlib
import json
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pyro_mcp import models
from pyro_mcp.config import Settings
from pyro_mcp.daemon.activity import Activity
from pyro_mcp.daemon.streaming import Emit, EventStream
from pyro_mcp.errors import Conflict, GuestFailed, InvalidRequest, NotFound, PyroError
from pyro_mcp.images import prune, store
from pyro_mcp.images.store import Store
from pyro_mcp.models import DaemonHello, PruneRequest, PullRequest, RunAccepted, RunRequest, SignalRequest
from pyro_mcp.runtime.bundle import find_bundle
from pyro_mcp.version import __version__
from pyro_mcp.workspace import environments
from pyro_mcp.workspace.control import RunControl
from pyro_mcp.workspace.host import Host, choose_driver, default_boot_slots
from pyro_mcp.workspace.throwaway import run_in_vm

_MAX_BODY = 4 << 20  # bytes of a JSON request
_LAST_REQUESTS_SECONDS = 0.5  # that requests get to end before a daemon that is told to end says that it is busy
_STDIN_PART = 1 << 20  # bytes of input in one frame to the guest


@dataclass(frozen=True)
class Daemon:
    """What requests share. `confined` tells whether VMMs can be confined here; `stop` ends the server."""

    settings: Settings
    activity: Activity
    confined: bool
    stop: Callable[[], None]
    images: Store
    boot_slots: asyncio.Semaphore = field(default_factory=default_boot_slots)
    runs: dict[str, RunControl] = field(default_factory=dict)


def create_app(daemon: Daemon) -> ASGIApp:
    """The API as an ASGI application."""
    handlers = _Handlers(daemon)
    app = Starlette(
        routes=[
            Route("/v1/hello", handlers.hello),
            Route("/v1/runs", handlers.run, methods=["POST"]),
            Route("/v1/runs/{id}/stdin", handlers.stdin, methods=["POST"]),
            Route("/v1/runs/{id}/signal", handlers.signal, methods=["POST"]),
            Route("/v1/environments", handlers.list_environments),
            Route("/v1/environments/prune", handlers.prune, methods=["POST"]),
            Route("/v1/environments/{name:path}", handlers.inspect_environment),
            Route("/v1/environments/{name:path}/pull", handlers.pull, methods=["POST"]),
            Route("/v1/shutdown", handlers.shutdown, methods=["POST"]),
        ],
        exception_handlers={PyroError: _error_response},
    )
    return _counted(app, daemon.activity)


@dataclass(frozen=True)
class _Handlers:
    daemon: Daemon

    async def hello(self, _request: Request) -> Response:
        daemon = self.daemon
        # The request that asks is under way itself.
        active = daemon.activity.active - 1
        return _json(DaemonHello(__version__, daemon.settings.describe(), os.getpid(), active))

    async def run(self, request: Request) -> EventStream:
        wanted = models.decode(RunRequest, await _body(request))

        async def produce(emit: Emit) -> None:
            run_id = secrets.token_hex(8)
            control = self.daemon.runs[run_id] = RunControl(takes_input=wanted.stdin)
            try:
                await emit(RunAccepted(run_id))
                await run_in_vm(await self._host(), wanted, control, emit)
            finally:
                control.close()
                del self.daemon.runs[run_id]

        return EventStream(produce)

    async def stdin(self, request: Request) -> Response:
        control = self._control(request)
        if not control.takes_input:
            raise InvalidRequest("no_input", "the run was started without input", "start it with stdin set")
        # Where the guest goes away under the input, the run's own events tell why.
        with contextlib.suppress(ClientDisconnect, GuestFailed):
            async for data in request.stream():
                for start in range(0, len(data), _STDIN_PART):
                    await control.write_stdin(data[start : start + _STDIN_PART])
        with contextlib.suppress(GuestFailed):
            await control.close_stdin()
        return JSONResponse({})

    async def signal(self, request: Request) -> Response:
        control = self._control(request)
        wanted = models.decode(SignalRequest, await _body(request))
        if not 1 <= wanted.signal <= 64:
            raise InvalidRequest("bad_signal", f"{wanted.signal} is no signal number", "use one from 1 to 64")
        await control.signal(wanted.signal)
        return JSONResponse({})

    async def list_environments(self, _request: Request) -> Response:
        listed = store.list_environments(self.daemon.images)
        return JSONResponse([models.encode(info) for info in listed])

    async def inspect_environment(self, request: Request) -> Response:
        return _json(store.inspect(self.daemon.images, request.path_params["name"]))

    async def pull(self, request: Request) -> EventStream:
        wanted = models.decode(PullRequest, await _body(request))
        name = request.path_params["name"]

        async def produce(emit: Emit) -> None:
            await emit(await environments.pull_environment(self.daemon.images, name, wanted.source, emit))

        return EventStream(produce)

    async def prune(self, request: Request) -> Response:
        wanted = models.decode(PruneRequest, await _body(request))
        return _json(await prune.prune(self.daemon.images, dry_run=wanted.dry_run))

    async def shutdown(self, _request: Request) -> Response:
        if not await self.daemon.activity.alone(_LAST_REQUESTS_SECONDS):
            raise Conflict("daemon_busy", "the daemon has requests under way", "wait for them, or end them")
        self.daemon.stop()
        return JSONResponse({})

    async def _host(self) -> Host:
        daemon = self.daemon
        bundle = find_bundle(daemon.settings)
        # Hashes the whole bundle where it has changed since the last time.
        await asyncio.to_thread(bundle.verify)
        driver = choose_driver(daemon.settings, confined=daemon.confined)
        return Host(daemon.images, bundle, driver, daemon.boot_slots)

    def _control(self, request: Request) -> RunControl:
        control = self.daemon.runs.get(request.path_params["id"])
        if control is None:
            raise NotFound("unknown_run", "there is no such run under way")
        return control


def _counted(app: ASGIApp, activity: Activity) -> ASGIApp:
    """Counts requests from their first byte to their last."""

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        with activity.request():
            await app(scope, receive, send)

    return counted


def _json(value: object) -> Response:
    return JSONResponse(models.encode(value))


async def _body(request: Request) -> object:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY:
            raise InvalidRequest("bad_request", f"the request is larger than {_MAX_BODY} bytes")
    try:
        return json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise InvalidRequest("bad_request", "the request is not JSON") from None


async def _error_response(_request: Request, error: Exception) -> Response:
    assert isinstance(error, PyroError)  # noqa: S101  (the handler is registered for nothing else)
    # Closed, because the client may still be sending a body that nobody wants any more.
    headers = {"connection": "close"}
    return JSONResponse(models.encode(error.to_wire()), status_code=_status(error), headers=headers)


def _status(error: PyroError) -> int:
    match error:
        case NotFound():
            return 404
        case Conflict():
            return 409
        case _:
            return 400 if error.exit_code == 1 else 500
