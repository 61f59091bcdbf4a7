"""`Pyro` and `AsyncPyro`: what programs import.

from pyro_mcp import Pyro

result = Pyro().run_in_vm("debian:12", ["git", "--version"])
print(result.stdout.decode())

Every name is imported when it is first wanted (see `pyro_mcp.late`). The modules in here name what calls return as
`sdk.FileListing` for the same reason: a command line imports what its one call returns, and no more.
"""

from typing import TYPE_CHECKING

from pyro_mcp.late import names_from

if TYPE_CHECKING:
    from pyro_mcp.events import OutputChunk
    from pyro_mcp.models import (
        EnvironmentInfo,
        Phase,
        Progress,
        PruneReport,
        RunFinished,
        RunRequest,
        RunStarted,
        TemplateFacts,
        TemplateInfo,
    )
    from pyro_mcp.sdk.async_streams import AsyncExecStream, AsyncRunStream
    from pyro_mcp.sdk.asynchronous import AsyncPyro
    from pyro_mcp.sdk.exec_stream import ExecStream
    from pyro_mcp.sdk.on_progress import OnProgress
    from pyro_mcp.sdk.pyro import Pyro
    from pyro_mcp.sdk.results import CommandResult, RunResult
    from pyro_mcp.sdk.run_stream import RunStream
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
else:
    __getattr__ = names_from(
        __name__,
        {
            "pyro_mcp.events": ("OutputChunk",),
            "pyro_mcp.models": (
                *("EnvironmentInfo", "Phase", "Progress", "PruneReport", "RunFinished", "RunRequest", "RunStarted"),
                *("TemplateFacts", "TemplateInfo"),
            ),
            ".async_streams": ("AsyncExecStream", "AsyncRunStream"),
            ".asynchronous": ("AsyncPyro",),
            ".exec_stream": ("ExecStream",),
            ".on_progress": ("OnProgress",),
            ".pyro": ("Pyro",),
            ".results": ("CommandResult", "RunResult"),
            ".run_stream": ("RunStream",),
            "pyro_mcp.workspace_models": (
                *("DiffEntry", "DiffReport", "ExecInfo", "ExecRequest", "ExecResult", "ExecStarted", "ExportReport"),
                *("FileContent", "FileEntry", "FileListing", "OutputPage", "PatchReport", "PatchedFile"),
                *("PrunedWorkspaces", "SeedInfo", "SyncReport", "WorkspaceInfo", "WrittenFile"),
            ),
        },
    )

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
    "OnProgress",
    "OutputChunk",
    "OutputPage",
    "PatchReport",
    "PatchedFile",
    "Phase",
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
    "TemplateFacts",
    "TemplateInfo",
    "WorkspaceInfo",
    "WrittenFile",
]
