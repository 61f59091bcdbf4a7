"""Workspaces themselves: make, find, look at, name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.mcp.call import Call
from pyro_mcp.mcp.tools.tool import CHANGES, ENVIRONMENTS, READS, SETS, MemMib, Reply, Tool, Vcpus, with_note
from pyro_mcp.models import TIMEOUT_SECONDS_RANGE
from pyro_mcp.workspace_models import NETWORK_POLICIES, WorkspaceInfo

_LISTED = 50
_NO_NETWORK = "leave network_policy out: this version of pyro gives workspaces no network, whatever the user allows"
Labels = dict[str, str]


@dataclass(frozen=True)
class CreateParameters:
    environment: Annotated[str, ENVIRONMENTS]
    seed_path: Annotated[str | None, "folder or tar file to copy in; of a git checkout, what git does not ignore"] = (
        None
    )
    name: str | None = None
    labels: Labels | None = None
    vcpu_count: Vcpus = 1
    mem_mib: MemMib = 1024
    ttl_seconds: Annotated[int | None, "stop after that (default never)", TIMEOUT_SECONDS_RANGE] = None
    network_policy: Annotated[str, "off; nothing else yet"] = "off"


@dataclass(frozen=True)
class OneParameters:
    workspace: str


@dataclass(frozen=True)
class UpdateParameters:
    workspace: str
    name: str | None = None
    clear_name: bool = False
    labels: Annotated[Labels | None, "to set"] = None
    clear_labels: Annotated[tuple[str, ...] | None, "to remove"] = None


@dataclass(frozen=True)
class NoParameters:
    pass


@dataclass(frozen=True)
class WorkspaceReply:
    workspace_id: str
    state: str
    environment: str | None = None
    name: str | None = None
    labels: Labels | None = None
    seed_files: int | None = None
    seed_bytes: int | None = None
    expires_at: str | None = None
    running_commands: int | None = None


@dataclass(frozen=True)
class CreateReply(WorkspaceReply):
    note: str | None = None


@dataclass(frozen=True)
class StatusReply(WorkspaceReply):
    host_memory_bytes: int | None = None


@dataclass(frozen=True)
class BriefReply:
    workspace_id: str
    state: str


@dataclass(frozen=True)
class ListedWorkspace:
    workspace_id: str
    state: str
    environment: str
    name: str | None = None
    labels: Labels | None = None


@dataclass(frozen=True)
class ListReply:
    workspaces: tuple[ListedWorkspace, ...]
    total: int


async def workspace_create(call: Call, parameters: CreateParameters) -> Reply:
    """Make a workspace, from a folder that the user allows if there is a seed."""
    _check_policy(parameters.network_policy, call.limits.network_policy)
    seed = None if parameters.seed_path is None else call.limits.folders.source(parameters.seed_path)
    async with call.telling("making a workspace") as teller:
        info = await call.pyro.create_workspace(
            parameters.environment,
            vcpu_count=parameters.vcpu_count,
            mem_mib=parameters.mem_mib,
            ttl_seconds=parameters.ttl_seconds,
            network_policy=parameters.network_policy,
            seed_path=seed,
            name=parameters.name,
            labels=parameters.labels,
            on_progress=teller.progress,
        )
    reply = described(info, "made; its files are in /workspace")
    return Reply(with_note(reply.text, teller.note), CreateReply(**vars(reply.result), note=teller.note))


def _check_policy(wanted: str, most: str) -> None:
    if wanted not in NETWORK_POLICIES:
        raise InvalidRequest("bad_argument", f"there is no network_policy {wanted[:60]!r}", _NO_NETWORK)
    if NETWORK_POLICIES.index(wanted) > NETWORK_POLICIES.index(most):
        raise InvalidRequest(
            "network_not_allowed",
            f"this server allows network_policy {most} at most",
            _NO_NETWORK,
        )


async def workspace_list(call: Call, parameters: NoParameters) -> Reply:
    """What workspaces there are."""
    found = await call.pyro.list_workspaces()
    listed = tuple(
        ListedWorkspace(info.workspace_id, info.state, info.environment, info.name, info.labels or None)
        for info in found[:_LISTED]
    )
    lines = [_line(each) for each in listed]
    if len(found) > len(listed):
        lines.append(f"[{len(found) - len(listed)} more]")
    return Reply("\n".join(lines) or "no workspaces yet", ListReply(listed, len(found)))


def _line(each: ListedWorkspace) -> str:
    words = [each.workspace_id, each.state, each.environment, each.name or "", _joined(each.labels)]
    return "  ".join(word for word in words if word)


def _joined(labels: Mapping[str, str] | None) -> str:
    return " ".join(f"{key}={value}" for key, value in (labels or {}).items())


async def workspace_status(call: Call, parameters: OneParameters) -> Reply:
    """How one workspace is."""
    info = await call.pyro.workspace_status(parameters.workspace)
    reply = described(info)
    taken = info.host_memory_bytes
    text = reply.text if taken is None else f"{reply.text}\nhost memory in use: {taken >> 20} MiB"
    return Reply(text, StatusReply(**vars(reply.result), host_memory_bytes=taken))


async def workspace_update(call: Call, parameters: UpdateParameters) -> Reply:
    """Set or remove name and labels."""
    info = await call.pyro.update_workspace(
        parameters.workspace,
        name=parameters.name,
        clear_name=parameters.clear_name,
        labels=parameters.labels,
        clear_labels=parameters.clear_labels or (),
    )
    return in_brief(info, "updated")


def described(info: WorkspaceInfo, done: str = "") -> Reply:
    """One workspace. Where its seed came from is not told: another client may have chosen it."""
    reply = WorkspaceReply(
        workspace_id=info.workspace_id,
        state=info.state,
        environment=info.environment,
        name=info.name,
        labels=info.labels or None,
        seed_files=None if info.seed is None else info.seed.files,
        seed_bytes=None if info.seed is None else info.seed.bytes,
        expires_at=info.expires_at,
        running_commands=info.running_commands,
    )
    first = f"{info.workspace_id} {done}" if done else info.workspace_id
    lines = [first, f"state: {info.state}{_because(info)}, environment: {info.environment}"]
    if info.name:
        lines.append(f"name: {info.name}")
    if info.labels:
        lines.append(f"labels: {_joined(info.labels)}")
    if info.seed is not None:
        lines.append(f"seed: {info.seed.files} files, {info.seed.bytes} bytes")
    if info.expires_at:
        lines.append(f"stops at: {info.expires_at}")
    if info.running_commands:
        lines.append(f"running commands: {info.running_commands}")
    return Reply("\n".join(lines), reply)


def in_brief(info: WorkspaceInfo, done: str) -> Reply:
    """The same, with little of it in the result: these calls are made for what they do."""
    return Reply(described(info, done).text, BriefReply(info.workspace_id, info.state))


def _because(info: WorkspaceInfo) -> str:
    return f" ({info.stopped_because})" if info.stopped_because else ""


TOOLS = (
    Tool(
        "workspace_create",
        "Make a workspace",
        "Use first, to get a Linux sandbox that lasts: files, commands, state stay until you delete it. seed_path "
        "copies a project into /workspace; that copy is the baseline of diff and reset. The project itself is never "
        "changed.",
        CHANGES,
        CreateParameters,
        CreateReply,
        workspace_create,
    ),
    Tool(
        "workspace_list",
        "List workspaces",
        "Use to find workspaces made earlier, in other chats too.",
        READS,
        NoParameters,
        ListReply,
        workspace_list,
    ),
    Tool(
        "workspace_update",
        "Rename or label a workspace",
        "Use to set or remove a workspace's name and labels.",
        SETS,
        UpdateParameters,
        BriefReply,
        workspace_update,
    ),
    Tool(
        "workspace_status",
        "Show a workspace",
        "Use to see a workspace's state, seed and time limit.",
        READS,
        OneParameters,
        StatusReply,
        workspace_status,
    ),
)
