"""What tools need of `AsyncPyro`, so that tests can put something else in its place."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from pyro_mcp.events import Event, OutputChunk
from pyro_mcp.models import EnvironmentInfo, Progress, RunRequest
from pyro_mcp.workspace_models import (
    DiffReport,
    ExecInfo,
    ExecResult,
    ExportReport,
    FileContent,
    FileListing,
    OutputPage,
    PatchReport,
    SyncReport,
    WorkspaceInfo,
    WrittenFile,
)

OnProgress = Callable[[Progress], None]


class RunEvents(Protocol):
    """What happens in a throwaway VM."""

    def __aiter__(self) -> AsyncIterator[Event | OutputChunk]: ...


class Backend(Protocol):
    """The coroutines of `AsyncPyro` that tools call. Cancelling one cancels what it asked for."""

    def stream_in_vm(self, request: RunRequest) -> AbstractAsyncContextManager[RunEvents]: ...

    async def list_environments(self) -> tuple[EnvironmentInfo, ...]: ...

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
        on_progress: OnProgress | None = None,
    ) -> WorkspaceInfo: ...

    async def list_workspaces(self, *, deleted: bool = False) -> tuple[WorkspaceInfo, ...]: ...

    async def workspace_status(self, workspace: str) -> WorkspaceInfo: ...

    async def update_workspace(
        self,
        workspace: str,
        *,
        name: str | None = None,
        clear_name: bool = False,
        labels: dict[str, str] | None = None,
        clear_labels: Sequence[str] = (),
    ) -> WorkspaceInfo: ...

    async def start_workspace(self, workspace: str) -> WorkspaceInfo: ...

    async def stop_workspace(self, workspace: str) -> WorkspaceInfo: ...

    async def delete_workspace(self, workspace: str) -> WorkspaceInfo: ...

    async def reset_workspace(self, workspace: str, snapshot: str = "baseline") -> WorkspaceInfo: ...

    async def restore_workspace(self, workspace: str, *, name: str | None = None) -> WorkspaceInfo: ...

    async def start_command(
        self,
        workspace: str,
        command: Sequence[str],
        *,
        timeout_seconds: int = 30,
        wait_seconds: int = 45,
        on_progress: OnProgress | None = None,
    ) -> ExecResult: ...

    async def wait_for_command(self, workspace: str, exec_id: str, *, wait_seconds: int = 45) -> ExecResult: ...

    async def command_status(self, workspace: str, exec_id: str) -> ExecInfo: ...

    async def read_command_output(
        self, workspace: str, exec_id: str, *, offset: int = 0, limit: int = 8192, grep: str | None = None
    ) -> OutputPage: ...

    async def cancel_command(self, workspace: str, exec_id: str) -> ExecInfo: ...

    async def workspace_logs(self, workspace: str) -> tuple[ExecInfo, ...]: ...

    async def push_workspace_sync(
        self,
        workspace: str,
        source: str,
        *,
        dest: str = "/workspace",
        all: bool = False,
        on_progress: OnProgress | None = None,
    ) -> SyncReport: ...

    async def list_workspace_files(
        self, workspace: str, path: str = "/workspace", *, recursive: bool = False, limit: int = 10_000
    ) -> FileListing: ...

    async def read_workspace_file(
        self, workspace: str, path: str, *, max_bytes: int = 1 << 20, offset: int = 0
    ) -> FileContent: ...

    async def write_workspace_file(self, workspace: str, path: str, data: bytes | str) -> WrittenFile: ...

    async def apply_workspace_patch(self, workspace: str, patch: str) -> PatchReport: ...

    async def diff_workspace(self, workspace: str) -> DiffReport: ...

    async def export_workspace(
        self, workspace: str, path: str, output: str, *, on_progress: OnProgress | None = None
    ) -> ExportReport: ...
