"""The part of the local API that is about workspaces; `{w}` is an id, a unique prefix of one, or a name.

POST /v1/workspaces                     make one; streams progress, then what was made
GET  /v1/workspaces                     all; `?deleted=1`: those that were deleted and can be restored
POST /v1/workspaces/prune               remove for good what was deleted or replaced
GET  /v1/workspaces/{w}                 how it stands
POST /v1/workspaces/{w}/update          name and labels
POST /v1/workspaces/{w}/start           also: stop, delete, reset, restore
POST /v1/workspaces/{w}/sync            files in; streams progress, then what was copied
POST /v1/workspaces/{w}/export          files out; likewise
POST /v1/workspaces/{w}/files/list      also: read, write
POST /v1/workspaces/{w}/patch           a unified diff
POST /v1/workspaces/{w}/diff            against the baseline

Commands of workspaces are in `exec_routes`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pyro_mcp.daemon.exchange import LARGE_BODY, Encoded, answer, decoded, large_answer, named, while_there
from pyro_mcp.daemon.streaming import Emit, EventStream
from pyro_mcp.events import Event
from pyro_mcp.guest.client import GuestClient
from pyro_mcp.workspace import export, files, sync
from pyro_mcp.workspace.diff import diff
from pyro_mcp.workspace.engine import Workspaces
from pyro_mcp.workspace.patch import apply_patch
from pyro_mcp.workspace_models import (
    ApplyPatch,
    CreateWorkspace,
    DiffRequest,
    ExportPath,
    ListFiles,
    PruneWorkspaces,
    ReadFile,
    ResetWorkspace,
    RestoreWorkspace,
    SyncPush,
    UpdateWorkspace,
    WorkspaceInfo,
    WriteFile,
)

T = TypeVar("T")


@dataclass(frozen=True)
class WorkspaceRoutes:
    """Handlers that decode, call the engine, and encode."""

    workspaces: Workspaces
    listed: Encoded = field(default_factory=Encoded)

    def routes(self) -> list[Route]:
        """Where each stands."""
        engine = self.workspaces
        return [
            Route("/v1/workspaces", self.create, methods=["POST"]),
            Route("/v1/workspaces", self.list, methods=["GET"]),
            Route("/v1/workspaces/prune", self.prune, methods=["POST"]),
            Route("/v1/workspaces/{w}", self.status, methods=["GET"]),
            Route("/v1/workspaces/{w}/update", self.update, methods=["POST"]),
            Route("/v1/workspaces/{w}/start", _changing(engine.start), methods=["POST"]),
            Route("/v1/workspaces/{w}/stop", _changing(engine.stop), methods=["POST"]),
            Route("/v1/workspaces/{w}/delete", _changing(engine.delete), methods=["POST"]),
            Route("/v1/workspaces/{w}/reset", self.reset, methods=["POST"]),
            Route("/v1/workspaces/{w}/restore", self.restore, methods=["POST"]),
            Route("/v1/workspaces/{w}/sync", self.sync, methods=["POST"]),
            Route("/v1/workspaces/{w}/export", self.export, methods=["POST"]),
            Route("/v1/workspaces/{w}/files/list", self.list_files, methods=["POST"]),
            Route("/v1/workspaces/{w}/files/read", self.read_file, methods=["POST"]),
            Route("/v1/workspaces/{w}/files/write", self.write_file, methods=["POST"]),
            Route("/v1/workspaces/{w}/patch", self.patch, methods=["POST"]),
            Route("/v1/workspaces/{w}/diff", self.diff, methods=["POST"]),
        ]

    # Making, finding, ending

    async def create(self, request: Request) -> EventStream:
        wanted = await decoded(CreateWorkspace, request)

        async def produce(emit: Emit) -> None:
            await emit(await self.workspaces.create(wanted, emit))

        return EventStream(produce)

    async def list(self, request: Request) -> Response:
        deleted = request.query_params.get("deleted") == "1"

        def look() -> Response:
            return self.listed.answer("workspaces", self.workspaces.list(deleted=deleted))

        return await asyncio.to_thread(look)

    async def prune(self, request: Request) -> Response:
        return answer(await self.workspaces.prune(await decoded(PruneWorkspaces, request)))

    async def status(self, request: Request) -> Response:
        return answer(await self.workspaces.status(reference(request)))

    async def update(self, request: Request) -> Response:
        return answer(await self.workspaces.update(reference(request), await decoded(UpdateWorkspace, request)))

    async def reset(self, request: Request) -> Response:
        return answer(await self.workspaces.reset(reference(request), await decoded(ResetWorkspace, request)))

    async def restore(self, request: Request) -> Response:
        return answer(await self.workspaces.restore(reference(request), await decoded(RestoreWorkspace, request)))

    # Files

    async def sync(self, request: Request) -> EventStream:
        return self._transfer(request, sync.push, await decoded(SyncPush, request))

    async def export(self, request: Request) -> EventStream:
        return self._transfer(request, export.export, await decoded(ExportPath, request))

    async def list_files(self, request: Request) -> Response:
        return await self._do(request, files.list_files, await decoded(ListFiles, request))

    async def read_file(self, request: Request) -> Response:
        return await self._do(request, files.read_file, await decoded(ReadFile, request))

    async def write_file(self, request: Request) -> Response:
        return await self._do(request, files.write_file, await decoded(WriteFile, request, LARGE_BODY))

    async def patch(self, request: Request) -> Response:
        # One that is given up has changed all or nothing.
        return await self._do(request, apply_patch, await decoded(ApplyPatch, request, LARGE_BODY))

    async def diff(self, request: Request) -> Response:
        return await self._do(request, diff, await decoded(DiffRequest, request))

    async def _do(
        self, request: Request, feature: Callable[[GuestClient, T], Awaitable[object]], wanted: T
    ) -> Response:
        """Ask the workspace's guest for something, for as long as the client is there to hear of it."""

        async def work() -> Response:
            async with self.workspaces.using(reference(request)) as live:
                done = await feature(live.guest, wanted)
            return await large_answer(done)

        return await while_there(request, work())

    def _transfer(
        self, request: Request, feature: Callable[[GuestClient, T, Emit], Awaitable[Event]], wanted: T
    ) -> EventStream:
        """Copy between host and guest, and tell how it goes on."""

        async def produce(emit: Emit) -> None:
            async with self.workspaces.using(reference(request), emit) as live:
                report = await feature(live.guest, wanted, emit)
            await emit(report)

        return EventStream(produce)


def reference(request: Request) -> str:
    """The workspace that the path names."""
    return named(request, "w")


def _changing(change: Callable[[str], Awaitable[WorkspaceInfo]]) -> Callable[[Request], Awaitable[Response]]:
    """A handler for what needs the workspace's name alone. It goes on to its end when the client leaves."""

    async def handle(request: Request) -> Response:
        return answer(await change(reference(request)))

    return handle
