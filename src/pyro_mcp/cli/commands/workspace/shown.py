"""A workspace as people read it."""

from typing import TYPE_CHECKING

from pyro_mcp.cli.output import counted, moment, print_json, size
from pyro_mcp.cli.streams import tell

if TYPE_CHECKING:
    from pyro_mcp.workspace_models import SeedInfo, WorkspaceInfo


def print_workspace(info: "WorkspaceInfo", *, as_json: bool) -> None:
    """One workspace with all that is known of it."""
    if as_json:
        print_json(info)
        return
    rows = {
        "id": info.workspace_id,
        "name": info.name,
        "state": state_of(info),
        "environment": f"{info.environment} ({info.environment_digest[:12]})",
        "machine": f"{info.vcpu_count} vCPU, {info.mem_mib} MiB, {info.vmm}, network {info.network_policy}",
        "created": moment(info.created_at),
        "expires": moment(info.expires_at) if info.expires_at else None,
        "seed": _seed(info.seed) if info.seed else None,
        "disk": size(info.disk_bytes),
        "host memory": None if info.host_memory_bytes is None else size(info.host_memory_bytes),
        "commands": f"{info.command_count}, {info.running_commands} of them running",
        "labels": labels_of(info) or None,
        "deleted": moment(info.deleted_at) if info.deleted_at else None,
        "recoverable": f"{' and '.join(info.recoverable)}, until {moment(info.recoverable_until)}"
        if info.recoverable
        else None,
    }
    for name, value in rows.items():
        if value is not None:
            print(f"{name + ':':13}{value}")


def _seed(seed: "SeedInfo") -> str:
    return f"{counted(seed.files, 'file')}, {size(seed.bytes)}, from {seed.path}"


def print_changed(info: "WorkspaceInfo", done: str, *, as_json: bool) -> None:
    """One line that says what was done to a workspace."""
    if as_json:
        print_json(info)
    else:
        print(f"{info.workspace_id} {done}" if info.name is None else f"{info.workspace_id} ({info.name}) {done}")


def tell_way_back(info: "WorkspaceInfo") -> None:
    """How to get back what was deleted or replaced."""
    until = f" (until {moment(info.recoverable_until)})" if info.recoverable_until else ""
    tell(f"[workspace] to get it back: pyro workspace restore {info.workspace_id}{until}\n")


def state_of(info: "WorkspaceInfo") -> str:
    """The state, with the reason for one that the user did not bring about."""
    return f"{info.state} ({info.stopped_because})" if info.stopped_because else info.state


def labels_of(info: "WorkspaceInfo") -> str:
    """The labels as they are typed."""
    return " ".join(f"{key}={value}" for key, value in sorted(info.labels.items()))
