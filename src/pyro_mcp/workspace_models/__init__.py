"""What clients and the daemon say to each other about workspaces: plain frozen dataclasses, like those in `models`.

Times are ISO 8601 in UTC. Paths of the host are absolute by the time they are in here: the daemon has a working
directory of its own. Paths in a workspace are absolute below `/workspace`, or relative to it.

The modules hold one topic each, and are imported when a name of theirs is first wanted (see `pyro_mcp.late`).
"""

from typing import TYPE_CHECKING

from pyro_mcp.late import names_from

if TYPE_CHECKING:
    # ruff: noqa: F403
    from pyro_mcp.workspace_models.changes import *
    from pyro_mcp.workspace_models.commands import *
    from pyro_mcp.workspace_models.constants import *
    from pyro_mcp.workspace_models.files import *
    from pyro_mcp.workspace_models.info import *
    from pyro_mcp.workspace_models.lifecycle import *
    from pyro_mcp.workspace_models.transfers import *
else:
    __getattr__ = names_from(
        __name__,
        {
            ".changes": ("ApplyPatch", "DiffEntry", "DiffReport", "DiffRequest", "PatchReport", "PatchedFile"),
            ".commands": (
                *("CommandHistory", "CommandWait", "ExecInfo", "ExecRequest", "ExecResult", "ExecStarted"),
                *("OutputPage", "OutputQuery", "WaitedExecRequest"),
            ),
            ".constants": (
                *("FILE_BYTES", "NETWORK_POLICIES", "SHOWN_OUTPUT_BYTES", "WAIT_SECONDS_RANGE", "WORKSPACE_FOLDER"),
            ),
            ".files": (
                *("FileContent", "FileEntry", "FileListing", "ListFiles", "ReadFile", "WriteFile", "WrittenFile"),
            ),
            ".info": ("SeedInfo", "WorkspaceInfo", "WorkspaceList"),
            ".lifecycle": (
                *("CreateWorkspace", "PruneWorkspaces", "PrunedWorkspaces", "ResetWorkspace", "RestoreWorkspace"),
                *("UpdateWorkspace",),
            ),
            ".transfers": ("ExportPath", "ExportReport", "SyncPush", "SyncReport"),
        },
    )
