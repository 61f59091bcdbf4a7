"""A workspace engine without machines, for the API, the SDK and the command line in front of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from pyro_mcp.daemon.streaming import Emit
from pyro_mcp.errors import Conflict, NotFound
from pyro_mcp.events import OutputChunk
from pyro_mcp.models import Progress
from pyro_mcp.workspace_models import (
    CreateWorkspace,
    ExecInfo,
    ExecRequest,
    ExecResult,
    OutputPage,
    OutputQuery,
    PrunedWorkspaces,
    PruneWorkspaces,
    ResetWorkspace,
    RestoreWorkspace,
    SeedInfo,
    UpdateWorkspace,
    WorkspaceInfo,
)

INFO = WorkspaceInfo(
    workspace_id="w-2k7m",
    environment="debian:12",
    environment_digest="0123456789abcdef0123",
    state="running",
    vcpu_count=1,
    mem_mib=1024,
    network_policy="off",
    created_at="2026-01-02T03:04:05+00:00",
    vmm="qemu",
    name="demo",
    labels={"owner": "me"},
    seed=SeedInfo("/src", 3, 4096),
    disk_bytes=5 << 20,
    command_count=2,
)
DELETED = replace(
    INFO,
    workspace_id="w-3k8n",
    state="deleted",
    name="old",
    deleted_at="2026-01-03T03:04:05+00:00",
    recoverable=("delete",),
    recoverable_until="2026-01-10T03:04:05+00:00",
)
ENDED = ExecInfo(
    "x-1f3a9c",
    "w-2k7m",
    ("ls", "-l"),
    "exited",
    "2026-01-02T03:04:06+00:00",
    exit_code=3,
    duration_ms=1234,
    output_bytes=9,
)
RUNNING = replace(ENDED, status="running", exit_code=None, duration_ms=50, output_bytes=7)


class FakeCommand:
    """Writes what it was given and ends when told to."""

    def __init__(self, request: ExecRequest) -> None:
        self.exec_id = ENDED.exec_id
        self.request = request
        self.signals: list[int] = []
        self.taken = b""
        self.input_ended = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.waits = False

    async def follow(self, emit: Emit) -> ExecInfo:
        await emit(OutputChunk("stdout", b"out\xff"))
        await emit(OutputChunk("stderr", b"err"))
        if self.request.stdin:
            await self.input_ended.wait()
            await emit(OutputChunk("stdout", self.taken))
        if self.waits:
            await asyncio.Future()
        return replace(ENDED, command=self.request.command)

    async def write_stdin(self, data: bytes) -> None:
        self.taken += data

    async def close_stdin(self) -> None:
        self.input_ended.set()

    async def signal(self, number: int) -> None:
        self.signals.append(number)

    def cancel_soon(self) -> None:
        self.cancelled.set()


class FakeRunner:
    """One command at a time; `waits` makes commands run, and waiting for them last, for ever."""

    def __init__(self) -> None:
        self.waits = False
        self.commands: list[FakeCommand] = []
        self.asked: list[tuple[Any, ...]] = []
        self.waiting = asyncio.Event()
        self.left = asyncio.Event()

    async def start(self, request: ExecRequest) -> FakeCommand:
        command = FakeCommand(request)
        command.waits = self.waits
        self.commands.append(command)
        return command

    def running(self, exec_id: str) -> FakeCommand:
        for command in reversed(self.commands):
            if command.exec_id == exec_id:
                return command
        raise NotFound("unknown_command", f"no command {exec_id}")

    async def wait(self, exec_id: str, seconds: float) -> ExecResult:
        self.asked.append(("wait", exec_id, seconds))
        if self.waits:
            self.waiting.set()
            try:
                await asyncio.Future()
            finally:
                self.left.set()
        return ExecResult(ENDED, b"head\xff", b"tail")

    async def output(self, exec_id: str, query: OutputQuery) -> OutputPage:
        self.asked.append(("output", exec_id, query))
        return OutputPage(exec_id, query.offset, b"page", 4, running=False)

    def info(self, exec_id: str) -> ExecInfo:
        if exec_id != ENDED.exec_id:
            raise NotFound("unknown_command", f"no command {exec_id!r}")
        return RUNNING if self.waits and self.commands else ENDED

    async def cancel(self, exec_id: str) -> ExecInfo:
        self.asked.append(("cancel", exec_id))
        return replace(ENDED, status="cancelled")


class FakePool:
    """Notes what is wanted of it."""

    def __init__(self) -> None:
        self.wanted: list[tuple[int, bool]] = []
        self.rests = 0

    def want(self, count: int, somebody_came: bool) -> None:
        self.wanted.append((count, somebody_came))

    async def rest(self) -> None:
        self.rests += 1


class FakeWorkspaces:
    """Has the workspaces `w-2k7m` (demo) and, deleted, `w-3k8n` (old); notes in `asked` what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.runner = FakeRunner()
        self.guest = object()
        self.held = 0
        self.running = 0
        self.live = True
        self.creating: Callable[[], Awaitable[None]] | None = None
        self.pool = FakePool()

    async def open(self) -> None:
        pass

    async def leave_commands(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def create(self, request: CreateWorkspace, report: Emit) -> WorkspaceInfo:
        self.asked.append(("create", request))
        await report(Progress("create", "boot", request.environment))
        if self.creating is not None:
            await self.creating()
        return replace(INFO, environment=request.environment, name=request.name, labels=request.labels)

    def list(self, *, deleted: bool) -> tuple[WorkspaceInfo, ...]:
        return (DELETED,) if deleted else (INFO,)

    def info(self, reference: str) -> WorkspaceInfo:
        self.asked.append(("info", reference))
        return self._find(reference)

    async def status(self, reference: str) -> WorkspaceInfo:
        self.asked.append(("status", reference))
        return replace(self._find(reference), host_memory_bytes=64 << 20)

    async def update(self, reference: str, request: UpdateWorkspace) -> WorkspaceInfo:
        self.asked.append(("update", reference, request))
        return replace(self._find(reference), name=request.name)

    async def start(self, reference: str) -> WorkspaceInfo:
        return self._changed("start", reference, "running")

    async def stop(self, reference: str) -> WorkspaceInfo:
        return self._changed("stop", reference, "stopped")

    async def delete(self, reference: str) -> WorkspaceInfo:
        return replace(self._changed("delete", reference, "deleted"), recoverable_until=DELETED.recoverable_until)

    async def reset(self, reference: str, request: ResetWorkspace) -> WorkspaceInfo:
        return self._changed("reset", reference, "running", request)

    async def restore(self, reference: str, request: RestoreWorkspace) -> WorkspaceInfo:
        return self._changed("restore", reference, "stopped", request)

    async def prune(self, request: PruneWorkspaces) -> PrunedWorkspaces:
        self.asked.append(("prune", request))
        return PrunedWorkspaces(("workspace w-3k8n",), 5 << 20, request.dry_run)

    @asynccontextmanager
    async def using(self, reference: str, _report: object = None) -> AsyncIterator[SimpleNamespace]:
        info = self._find(reference)
        if not self.live:
            raise Conflict("workspace_stopped", "it is stopped", "pyro workspace start demo")
        self.held += 1
        try:
            yield SimpleNamespace(workspace_id=info.workspace_id, guest=self.guest, runner=self.runner)
        finally:
            self.held -= 1

    def runner_if_live(self, reference: str) -> FakeRunner | None:
        self._find(reference)
        return self.runner if self.live else None

    def execs(self, reference: str) -> tuple[ExecInfo, ...]:
        self._find(reference)
        return (ENDED,)

    def exec(self, reference: str, exec_id: str) -> ExecInfo:
        self._find(reference)
        if exec_id != ENDED.exec_id:
            raise NotFound("unknown_command", f"no command {exec_id!r}")
        return ENDED

    def _changed(self, change: str, reference: str, state: str, *more: Any) -> WorkspaceInfo:
        self.asked.append((change, reference, *more))
        return replace(self._find(reference), state=state)

    def _find(self, reference: str) -> WorkspaceInfo:
        for info in (INFO, DELETED):
            if reference in (info.workspace_id, info.name):
                return info
        raise NotFound("unknown_workspace", f"there is no workspace {reference!r}", "did you mean demo?")
