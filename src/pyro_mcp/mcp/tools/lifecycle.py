"""A workspace's life after its making: back to its beginning, stopped, gone and back again."""

from dataclasses import dataclass
from typing import Annotated

from pyro_mcp.mcp.call import Call
from pyro_mcp.mcp.tools.tool import CHANGES, READS, SETS, Reply, Tool
from pyro_mcp.mcp.tools.workspaces import BriefReply, NoParameters, OneParameters, WorkspaceReply, described, in_brief
from pyro_mcp.workspace_models import WorkspaceInfo


@dataclass(frozen=True)
class ResetParameters:
    workspace: str
    snapshot: Annotated[str, "default baseline: as after creation"] = "baseline"


@dataclass(frozen=True)
class RestoreParameters:
    workspace: str
    name: Annotated[str | None, "another name, if its own is in use now"] = None


@dataclass(frozen=True)
class UndoableReply:
    workspace_id: str
    state: str
    undo: str


@dataclass(frozen=True)
class ListedEnvironment:
    name: str
    description: str
    installed: bool


@dataclass(frozen=True)
class EnvironmentsReply:
    environments: tuple[ListedEnvironment, ...]


async def workspace_reset(call: Call, parameters: ResetParameters) -> Reply:
    """Throw away what was done since creation, and keep it for `restore`."""
    async with call.telling("resetting"):
        info = await call.pyro.reset_workspace(parameters.workspace, parameters.snapshot)
    return _undoable(info, f"as it was at {parameters.snapshot}; the user gets the replaced state back with")


async def workspace_delete(call: Call, parameters: OneParameters) -> Reply:
    """End a workspace, and keep its disk for `restore`."""
    info = await call.pyro.delete_workspace(parameters.workspace)
    return _undoable(info, "deleted; the user gets it back with")


def _undoable(info: WorkspaceInfo, done: str) -> Reply:
    undo = f"pyro workspace restore {info.workspace_id}"
    return Reply(described(info, f"{done} `{undo}`").text, UndoableReply(info.workspace_id, info.state, undo))


async def workspace_stop(call: Call, parameters: OneParameters) -> Reply:
    """End the machine and keep the disk."""
    return in_brief(await call.pyro.stop_workspace(parameters.workspace), "stopped")


async def workspace_start(call: Call, parameters: OneParameters) -> Reply:
    """Start a stopped workspace."""
    async with call.telling("starting"):
        return in_brief(await call.pyro.start_workspace(parameters.workspace), "started")


async def workspace_restore(call: Call, parameters: RestoreParameters) -> Reply:
    """Undo a deletion or the last reset."""
    async with call.telling("restoring"):
        info = await call.pyro.restore_workspace(parameters.workspace, name=parameters.name)
    return described(info, "restored")


async def vm_list_environments(call: Call, parameters: NoParameters) -> Reply:
    """What machines can be made of."""
    listed = tuple(
        ListedEnvironment(info.name, info.description, info.installed) for info in await call.pyro.list_environments()
    )
    lines = [
        f"{each.name}  {'installed' if each.installed else 'not installed'}  {each.description}" for each in listed
    ]
    return Reply("\n".join(lines), EnvironmentsReply(listed))


TOOLS = (
    Tool(
        "workspace_reset",
        "Reset a workspace",
        "Use to start over: files, packages and processes go back to how they were at creation. The user can undo it.",
        SETS,
        ResetParameters,
        UndoableReply,
        workspace_reset,
    ),
    Tool(
        "workspace_delete",
        "Delete a workspace",
        "Use when the work is done and exported. The user can undo it for seven days.",
        SETS,
        OneParameters,
        UndoableReply,
        workspace_delete,
    ),
    Tool(
        "workspace_stop",
        "Stop a workspace",
        "Use to free memory: ends the machine and keeps the disk. Running commands end.",
        SETS,
        OneParameters,
        BriefReply,
        workspace_stop,
    ),
    Tool(
        "workspace_start",
        "Start a workspace",
        "Use to go on with a stopped workspace.",
        SETS,
        OneParameters,
        BriefReply,
        workspace_start,
    ),
    Tool(
        "workspace_restore",
        "Restore a workspace",
        "Use to undo workspace_delete or the last workspace_reset.",
        CHANGES,
        RestoreParameters,
        WorkspaceReply,
        workspace_restore,
    ),
    Tool(
        "vm_list_environments",
        "List environments",
        "Use to see what workspaces and VMs can be made of.",
        READS,
        NoParameters,
        EnvironmentsReply,
        vm_list_environments,
    ),
)
