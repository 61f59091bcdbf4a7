"""`Pyro` and `AsyncPyro`: what programs import.

from pyro_mcp import Pyro

result = Pyro().run_in_vm("debian:12", ["git", "--version"])
print(result.stdout.decode())
"""

from typing import TYPE_CHECKING

from pyro_mcp.events import OutputChunk
from pyro_mcp.models import EnvironmentInfo, Progress, PruneReport, RunFinished, RunRequest, RunStarted
from pyro_mcp.sdk.pyro import Pyro
from pyro_mcp.sdk.results import CommandResult, RunResult
from pyro_mcp.sdk.streams import ExecStream, RunStream
from pyro_mcp.workspace_models import (
    DiffEntry,
    DiffReport,
    ExecInfo,
    ExecRequest,
    ExecResult,
    ExecStarted,
    ExportReport,
    FileContent,
    FileEntry,
    FileListing,
    OutputPage,
    PatchedFile,
    PatchReport,
    PrunedWorkspaces,
    SeedInfo,
    SyncReport,
    WorkspaceInfo,
    WrittenFile,
)

if TYPE_CHECKING:
    from pyro_mcp.sdk.async_streams import AsyncExecStream as AsyncExecStream
    from pyro_mcp.sdk.async_streams import AsyncRunStream as AsyncRunStream
    from pyro_mcp.sdk.asynchronous import AsyncPyro as AsyncPyro

__all__ = [
    "AsyncExecStream",
    "AsyncPyro",
    "AsyncRunStream",
    "CommandResult",
    "DiffEntry",
    "DiffReport",
    "EnvironmentInfo",
    "ExecInfo",
    "ExecRequest",
    "ExecResult",
    "ExecStarted",
    "ExecStream",
    "ExportReport",
    "FileContent",
    "FileEntry",
    "FileListing",
    "OutputChunk",
    "OutputPage",
    "PatchReport",
    "PatchedFile",
    "Progress",
    "PruneReport",
    "PrunedWorkspaces",
    "Pyro",
    "RunFinished",
    "RunRequest",
    "RunResult",
    "RunStarted",
    "RunStream",
    "SeedInfo",
    "SyncReport",
    "WorkspaceInfo",
    "WrittenFile",
]

# They bring asyncio, which the command line does without.
_LATE = {
    "AsyncPyro": "pyro_mcp.sdk.asynchronous",
    "AsyncExecStream": "pyro_mcp.sdk.async_streams",
    "AsyncRunStream": "pyro_mcp.sdk.async_streams",
}


def __getattr__(name: str) -> object:
    """Load what needs asyncio at its first use."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415  (late on purpose: see above)

    return getattr(import_module(_LATE[name]), name)
