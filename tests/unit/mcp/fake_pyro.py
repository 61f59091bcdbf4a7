"""A stand-in for `AsyncPyro` that answers from memory: a workspace, some files, and commands that end or never do."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any, Self

from pyro_mcp.errors import NotFound
from pyro_mcp.events import Event, OutputChunk
from pyro_mcp.models import NOTICE, EnvironmentInfo, Progress, RunFinished, RunRequest, RunStarted
from pyro_mcp.workspace_models import (
    DiffEntry,
    DiffReport,
    ExecInfo,
    ExecResult,
    ExportReport,
    FileContent,
    FileEntry,
    FileListing,
    OutputPage,
    PatchedFile,
    PatchReport,
    SeedInfo,
    SyncReport,
    WorkspaceInfo,
    WrittenFile,
)

AT = "2026-01-02T03:04:05Z"
ENDLESS = ("sh", "-c", "sleep infinity")


def workspace(**changed: Any) -> WorkspaceInfo:
    """The workspace that there is."""
    values: dict[str, Any] = {
        "workspace_id": "w-7k2m",
        "environment": "debian:12",
        "environment_digest": "sha256:0",
        "state": "running",
        "vcpu_count": 1,
        "mem_mib": 1024,
        "network_policy": "off",
        "created_at": AT,
        "vmm": "qemu",
    }
    return WorkspaceInfo(**values | changed)


class FakeRun:
    """A run whose events are known beforehand."""

    def __init__(self, events: Sequence[Event | OutputChunk]) -> None:
        self._events = events

    async def __aiter__(self) -> AsyncIterator[Event | OutputChunk]:
        for event in self._events:
            await asyncio.sleep(0)
            yield event

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class FakePyro:
    """Notes every call in `calls` (and in `note`, for other processes); `error` is raised by all if set."""

    def __init__(self, note: Callable[[str], None] = lambda _: None) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.error: Exception | None = None
        self.workspaces = [workspace()]
        self.files: dict[str, bytes] = {"a.txt": b"one\ntwo\n"}
        self.output = b"hello\n"
        self.notices: list[str] = []
        self.commands: dict[str, ExecInfo] = {}
        self.events: list[Event | OutputChunk] = [
            Progress("pull", "unpack", "debian:12", done=1, total=2, unit="packages"),
            RunStarted("qemu", 1900),
            OutputChunk("stdout", b"out\n"),
            OutputChunk("stderr", b"err\n"),
            RunFinished("debian:12", "qemu", 3, False, 2000),
        ]
        self.diff = DiffReport((), b"", False, 0, 0)
        self._note = note

    def _called(self, called: str, /, **arguments: Any) -> None:
        self.calls.append((called, arguments))
        self._note(called)
        if self.error is not None:
            raise self.error

    def _give_notice(self, operation: str, on_progress: Callable[[Progress], None]) -> None:
        for notice in self.notices:
            on_progress(Progress(operation, NOTICE, "", notice))

    def _info(self, workspace: str) -> WorkspaceInfo:
        for info in self.workspaces:
            if workspace in (info.workspace_id, info.name):
                return info
        raise NotFound("unknown_workspace", f"there is no workspace {workspace!r}", "pyro workspace list")

    def stream_in_vm(self, request: RunRequest) -> FakeRun:
        self._called("stream_in_vm", request=request)
        return FakeRun(self.events)

    async def list_environments(self) -> tuple[EnvironmentInfo, ...]:
        self._called("list_environments")
        return (EnvironmentInfo("debian:12", "Debian with tools", True, ("git",)),)

    async def create_workspace(
        self,
        environment: str,
        *,
        vcpu_count: int = 1,
        mem_mib: int = 1024,
        ttl_seconds: int | None = None,
        network_policy: str = "off",
        seed_path: str | None = None,
        seed_all: bool = False,
        name: str | None = None,
        labels: dict[str, str] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> WorkspaceInfo:
        self._called("create_workspace", environment=environment, seed_path=seed_path, labels=labels, mem_mib=mem_mib)
        if on_progress is not None:
            on_progress(Progress("seed", "pack", environment, done=3, unit="files"))
            self._give_notice("seed", on_progress)
        seed = None if seed_path is None else SeedInfo(seed_path, 3, 999)
        made = workspace(environment=environment, name=name, labels=labels or {}, seed=seed, workspace_id="w-new2")
        self.workspaces.append(made)
        return made

    async def list_workspaces(self, *, deleted: bool = False) -> tuple[WorkspaceInfo, ...]:
        self._called("list_workspaces")
        return tuple(self.workspaces)

    async def workspace_status(self, workspace: str) -> WorkspaceInfo:
        self._called("workspace_status", workspace=workspace)
        return self._info(workspace)

    async def update_workspace(
        self,
        workspace: str,
        *,
        name: str | None = None,
        clear_name: bool = False,
        labels: dict[str, str] | None = None,
        clear_labels: Sequence[str] = (),
    ) -> WorkspaceInfo:
        self._called("update_workspace", name=name, clear_name=clear_name, labels=labels, clear_labels=clear_labels)
        return self._info(workspace)

    async def start_workspace(self, workspace: str) -> WorkspaceInfo:
        self._called("start_workspace")
        return self._info(workspace)

    async def stop_workspace(self, workspace: str) -> WorkspaceInfo:
        self._called("stop_workspace")
        return self._info(workspace)

    async def delete_workspace(self, workspace: str) -> WorkspaceInfo:
        self._called("delete_workspace")
        return self._info(workspace)

    async def reset_workspace(self, workspace: str, snapshot: str = "baseline") -> WorkspaceInfo:
        self._called("reset_workspace", snapshot=snapshot)
        return self._info(workspace)

    async def restore_workspace(self, workspace: str, *, name: str | None = None) -> WorkspaceInfo:
        self._called("restore_workspace", name=name)
        return self._info(workspace)

    async def start_command(
        self,
        workspace: str,
        command: Sequence[str],
        *,
        timeout_seconds: int = 30,
        wait_seconds: int = 45,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> ExecResult:
        if on_progress is not None:
            self._give_notice("workspace", on_progress)
        self._called("start_command", command=tuple(command), timeout_seconds=timeout_seconds, wait=wait_seconds)
        self._info(workspace)
        exec_id = f"x-{len(self.commands):06x}"
        running = tuple(command) == ENDLESS
        self.commands[exec_id] = ExecInfo(
            exec_id,
            workspace,
            tuple(command),
            "running" if running else "exited",
            AT,
            None if running else 0,
            None if running else 812,
            len(self.output),
        )
        return self._result(exec_id)

    def _result(self, exec_id: str) -> ExecResult:
        if exec_id not in self.commands:
            raise NotFound("unknown_command", f"there is no command {exec_id!r}", "pyro workspace logs W")
        if len(self.output) <= 8192:
            return ExecResult(self.commands[exec_id], self.output)
        return ExecResult(self.commands[exec_id], self.output[:2048], self.output[-6144:])

    async def wait_for_command(self, workspace: str, exec_id: str, *, wait_seconds: int = 45) -> ExecResult:
        self._called("wait_for_command", wait=wait_seconds)
        if self._result(exec_id).info.status == "running" and wait_seconds:
            await asyncio.Event().wait()  # it never ends by itself
        return self._result(exec_id)

    async def command_status(self, workspace: str, exec_id: str) -> ExecInfo:
        self._called("command_status", exec_id=exec_id)
        return self._result(exec_id).info

    async def read_command_output(
        self, workspace: str, exec_id: str, *, offset: int = 0, limit: int = 8192, grep: str | None = None
    ) -> OutputPage:
        self._called("read_command_output", offset=offset, limit=limit, grep=grep)
        data = self.output[offset : offset + limit]
        end = offset + len(data)
        running = self._result(exec_id).info.status == "running"
        return OutputPage(exec_id, offset, data, len(self.output), running, end if end < len(self.output) else None)

    async def cancel_command(self, workspace: str, exec_id: str) -> ExecInfo:
        self._called("cancel_command", exec_id=exec_id)
        old = self._result(exec_id).info
        self.commands[exec_id] = ExecInfo(exec_id, workspace, old.command, "cancelled", AT, 143, 900, 6)
        return self.commands[exec_id]

    async def workspace_logs(self, workspace: str) -> tuple[ExecInfo, ...]:
        self._called("workspace_logs")
        return tuple(self.commands.values())

    async def push_workspace_sync(
        self,
        workspace: str,
        source: str,
        *,
        dest: str = "/workspace",
        all: bool = False,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> SyncReport:
        self._called("push_workspace_sync", source=source, dest=dest)
        if on_progress is not None:
            self._give_notice("sync", on_progress)
        return SyncReport(2, 20, dest)

    async def list_workspace_files(
        self, workspace: str, path: str = "/workspace", *, recursive: bool = False, limit: int = 10_000
    ) -> FileListing:
        self._called("list_workspace_files", path=path, recursive=recursive, limit=limit)
        entries = tuple(
            FileEntry(f"/workspace/{name}", "file", len(data), 0o644, AT) for name, data in sorted(self.files.items())
        )
        return FileListing("/workspace", entries[:limit], len(entries) > limit)

    async def read_workspace_file(
        self, workspace: str, path: str, *, max_bytes: int = 1 << 20, offset: int = 0
    ) -> FileContent:
        self._called("read_workspace_file", path=path, max_bytes=max_bytes, offset=offset)
        if path not in self.files:
            raise NotFound("not_found", f"there is no {path}", "list the folder")
        whole = self.files[path]
        data = whole[offset : offset + max_bytes]
        return FileContent(path, offset, data, len(whole), offset + len(data) < len(whole))

    async def write_workspace_file(self, workspace: str, path: str, data: bytes | str) -> WrittenFile:
        self._called("write_workspace_file", path=path)
        content = data.encode() if isinstance(data, str) else data
        created = path not in self.files
        self.files[path] = content
        return WrittenFile(f"/workspace/{path}", len(content), created)

    async def apply_workspace_patch(self, workspace: str, patch: str) -> PatchReport:
        self._called("apply_workspace_patch", patch=patch)
        return PatchReport((PatchedFile("/workspace/a.txt", "renamed", 1, "/workspace/b.txt", 4),))

    async def diff_workspace(self, workspace: str) -> DiffReport:
        self._called("diff_workspace")
        return self.diff

    async def export_workspace(
        self,
        workspace: str,
        path: str,
        output: str,
        *,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> ExportReport:
        self._called("export_workspace", path=path, output=output)
        return ExportReport(output, 1, 8, (".git", "dev/null"), ("git repositories", "devices"), 2)


def modified(path: str, text: bytes) -> DiffReport:
    """A diff of one file."""
    return DiffReport((DiffEntry(path, "modified", insertions=2, deletions=1),), text, False, 2, 1)
