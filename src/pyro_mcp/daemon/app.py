"""The local API: which request goes where.

GET  /v1/hello                          who answers here
GET  /v1/ready                          the machines that wait for the next workspaces
POST /v1/runs                           one command in a throwaway machine; streams events
POST /v1/runs/{id}/stdin                input for its command, as the body comes; the body's end is the input's end
POST /v1/runs/{id}/signal               {"signal": 15}, to its command's process group
GET  /v1/environments                   the catalog and what is installed
GET  /v1/environments/{name}            one of them, with its packages
POST /v1/environments/{name}/pull       {"source": null}; streams progress
POST /v1/environments/prune             {"dry_run": false}
POST /v1/shutdown                       end the daemon if it has nothing to do

What is below /v1/workspaces is in `workspace_routes` and `exec_routes`, and /v1/chats in `chats`.
"""

import os
import secrets
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pyro_mcp import models, phases
from pyro_mcp.config import Settings
from pyro_mcp.daemon import chats
from pyro_mcp.daemon.activity import Activity
from pyro_mcp.daemon.chats import ChatRoutes, Chats
from pyro_mcp.daemon.exchange import answer, decoded, error_response, named, pass_signal, pass_stdin
from pyro_mcp.daemon.exec_routes import ExecRoutes
from pyro_mcp.daemon.phase_events import telling_phases
from pyro_mcp.daemon.streaming import Emit, EventStream
from pyro_mcp.daemon.workspace_routes import WorkspaceRoutes
from pyro_mcp.errors import Conflict, InvalidRequest, NotFound, PyroError
from pyro_mcp.images import store
from pyro_mcp.images.store import Store
from pyro_mcp.models import DaemonHello, PruneRequest, PullRequest, RunAccepted, RunRequest
from pyro_mcp.version import __version__
from pyro_mcp.workspace import environments
from pyro_mcp.workspace.control import RunControl
from pyro_mcp.workspace.engine import Workspaces
from pyro_mcp.workspace.host import FindHost
from pyro_mcp.workspace.prepare import prepare_usual_machine
from pyro_mcp.workspace.templates import Templates
from pyro_mcp.workspace.throwaway import check, run_in_vm

_LAST_REQUESTS_SECONDS = 0.5  # that requests get to end before a daemon that is told to end says that it is busy


@dataclass(frozen=True)
class Daemon:
    """What requests share; `stop` ends the server."""

    settings: Settings
    activity: Activity
    stop: Callable[[], None]
    images: Store
    find_host: FindHost
    runs: dict[str, RunControl] = field(default_factory=dict)
    workspaces: Workspaces = field(kw_only=True)
    templates: Templates | None = field(kw_only=True, default=None)
    chats: Chats = field(kw_only=True, default_factory=lambda: Chats(lambda _count, _came: None))


def create_app(daemon: Daemon) -> ASGIApp:
    """The API as an ASGI application."""
    handlers = _Handlers(daemon)
    app = Starlette(
        routes=[
            Route("/v1/hello", handlers.hello),
            Route("/v1/ready", handlers.ready),
            Route("/v1/runs", handlers.run, methods=["POST"]),
            Route("/v1/runs/{id}/stdin", handlers.stdin, methods=["POST"]),
            Route("/v1/runs/{id}/signal", handlers.signal, methods=["POST"]),
            Route("/v1/environments", handlers.list_environments),
            Route("/v1/environments/prune", handlers.prune, methods=["POST"]),
            Route("/v1/environments/{name:path}", handlers.inspect_environment),
            Route("/v1/environments/{name:path}/pull", handlers.pull, methods=["POST"]),
            Route("/v1/shutdown", handlers.shutdown, methods=["POST"]),
            *ChatRoutes(daemon.chats, daemon.settings).routes(),
            *ExecRoutes(daemon.workspaces).routes(),
            *WorkspaceRoutes(daemon.workspaces).routes(),
        ],
        exception_handlers={PyroError: error_response},
    )
    return _counted(app, daemon.activity)


@dataclass(frozen=True)
class _Handlers:
    daemon: Daemon

    async def hello(self, _request: Request) -> Response:
        daemon = self.daemon
        # The request that asks is under way itself.
        active = daemon.activity.active - 1
        return answer(DaemonHello(__version__, daemon.settings.describe(), os.getpid(), active))

    async def ready(self, _request: Request) -> Response:
        return answer(await self.daemon.workspaces.pool.describe())

    async def run(self, request: Request) -> EventStream:
        wanted = await decoded(RunRequest, request)

        async def produce(emit: Emit) -> None:
            run_id = secrets.token_hex(8)
            control = self.daemon.runs[run_id] = RunControl(takes_input=wanted.stdin)
            try:
                async with telling_phases(emit) if wanted.timings else nullcontext(emit) as tell:
                    await tell(RunAccepted(run_id))
                    check(wanted)
                    host = await self.daemon.find_host()
                    phases.ended("host")
                    await run_in_vm(host, wanted, control, tell)
            finally:
                control.close()
                del self.daemon.runs[run_id]

        return EventStream(produce)

    async def stdin(self, request: Request) -> Response:
        control = self._control(request)
        if not control.takes_input:
            raise InvalidRequest("no_input", "the run was started without input", "start it with stdin set")
        return await pass_stdin(request, control)

    async def signal(self, request: Request) -> Response:
        return await pass_signal(request, self._control(request).signal)

    async def list_environments(self, _request: Request) -> Response:
        listed = store.list_environments(self.daemon.images)
        return JSONResponse([models.encode(info) for info in listed])

    async def inspect_environment(self, request: Request) -> Response:
        daemon, name = self.daemon, named(request, "name")
        inspected = environments.inspect_environment(daemon.images, daemon.templates, daemon.find_host, name)
        return answer(await inspected)

    async def pull(self, request: Request) -> EventStream:
        wanted = await decoded(PullRequest, request)
        name = named(request, "name")

        async def produce(emit: Emit) -> None:
            pulled = await environments.pull_environment(self.daemon.images, name, wanted.source, emit)
            if self.daemon.templates is not None:
                await prepare_usual_machine(self.daemon.find_host, pulled.name, emit)
            await emit(pulled)

        return EventStream(produce)

    async def prune(self, request: Request) -> Response:
        wanted = await decoded(PruneRequest, request)
        daemon = self.daemon
        if not wanted.dry_run:
            await daemon.workspaces.pool.rest()  # what they have begun from is removed
        return answer(await environments.prune_environments(daemon.images, daemon.templates, dry_run=wanted.dry_run))

    async def shutdown(self, _request: Request) -> Response:
        if not await self.daemon.activity.alone(_LAST_REQUESTS_SECONDS):
            raise Conflict("daemon_busy", "the daemon has requests under way", "wait for them, or end them")
        self.daemon.stop()
        return JSONResponse({})

    def _control(self, request: Request) -> RunControl:
        control = self.daemon.runs.get(request.path_params["id"])
        if control is None:
            raise NotFound("unknown_run", "there is no such run under way")
        return control


def _counted(app: ASGIApp, activity: Activity) -> ASGIApp:
    """Counts requests from their first byte to their last."""

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") == chats.PATH:
            await app(scope, receive, send)
            return
        with activity.request():
            await app(scope, receive, send)

    return counted
