"""What there is to know about a workspace."""

from dataclasses import dataclass, field

from pyro_mcp.models.event import Event


@dataclass(frozen=True)
class SeedInfo:
    """What went into a workspace at its creation: from where, how many files (not folders), how many bytes in them."""

    path: str
    files: int
    bytes: int


@dataclass(frozen=True)
class WorkspaceInfo(Event):
    """A workspace as it is now.

    `state` is one of creating, running, stopped, deleted. `stopped_because` tells why a stopped one is: user, expired,
    host-restarted, machine-died. `disk_bytes` is what its disks take on the host. `host_memory_bytes` is
    what its machine takes of the host's memory, told by `status` alone, and of one that runs. `recoverable` lists what
    `restore` can bring back ("reset", "delete").
    """

    workspace_id: str
    environment: str
    environment_digest: str
    state: str
    vcpu_count: int
    mem_mib: int
    network_policy: str
    created_at: str
    vmm: str
    name: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    seed: SeedInfo | None = None
    ttl_seconds: int | None = None
    expires_at: str | None = None
    stopped_because: str | None = None
    deleted_at: str | None = None
    recoverable: tuple[str, ...] = ()
    recoverable_until: str | None = None
    disk_bytes: int = 0
    host_memory_bytes: int | None = None
    command_count: int = 0
    running_commands: int = 0


@dataclass(frozen=True)
class WorkspaceList:
    """The answer to a listing."""

    workspaces: tuple[WorkspaceInfo, ...]
