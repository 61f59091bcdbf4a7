"""Which tools each profile has, in the order in which hosts show them."""

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.mcp.tools import changes, commands, files, lifecycle, logs, workspaces
from pyro_mcp.mcp.tools.tool import Tool

_ALL = {
    tool.name: tool
    for tool in (*commands.TOOLS, *logs.TOOLS, *files.TOOLS, *changes.TOOLS, *workspaces.TOOLS, *lifecycle.TOOLS)
}
_CORE = (
    "vm_run",
    "workspace_create",
    "workspace_list",
    "workspace_update",
    "workspace_status",
    "workspace_sync_push",
    "workspace_exec",
    "workspace_logs",
    "workspace_file_list",
    "workspace_file_read",
    "workspace_file_write",
    "workspace_patch_apply",
    "workspace_diff",
    "workspace_export",
    "workspace_reset",
    "workspace_delete",
)
_PROFILES = {
    "vm-run": ("vm_run",),
    "workspace-core": _CORE,
    "workspace-full": (*_CORE, "workspace_stop", "workspace_start", "workspace_restore", "vm_list_environments"),
}
PROFILES = tuple(_PROFILES)

_LOOP = """\
pyro gives you Linux sandboxes (microVMs) on the user's machine. Nothing in them can harm the user's files.
Work in a loop:
1. workspace_create, with seed_path to copy the project in ("." is the user's project).
2. Edit: workspace_patch_apply or workspace_file_write; look with workspace_file_list and workspace_file_read.
3. Run: workspace_exec (raise timeout_seconds for builds and tests); follow long commands with workspace_logs.
4. Review: workspace_diff. Start over: workspace_reset.
5. Hand over: workspace_export to a new path in the project, or apply the diff yourself.
Workspaces outlive the chat: name them, and find them again with workspace_list. There is no network inside.
"""
_RUN_ONLY = """\
pyro gives you throwaway Linux machines (microVMs) on the user's machine: vm_run runs one command in a new one and
shows its output. It has no network and no files of the user's; nothing in it can harm those, and nothing in it lasts.
"""


def tools_of(profile: str) -> tuple[Tool, ...]:
    """The tools of a profile. Raises `InvalidRequest` for one that there is not."""
    if profile not in _PROFILES:
        raise InvalidRequest("bad_usage", f"there is no profile {profile!r}", f"use one of: {', '.join(PROFILES)}")
    return tuple(_ALL[name] for name in _PROFILES[profile])


def instructions_of(profile: str) -> str:
    """What hosts tell models about the server as a whole."""
    return _RUN_ONLY if profile == "vm-run" else _LOOP
