"""One workspace as it is written down."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pyro_mcp.process import Detached
from pyro_mcp.workspace_models import SeedInfo

# What `delete` and `reset` leave can be had back for so long.
KEPT_FOR = timedelta(days=7)

CREATING = "creating"
RUNNING = "running"
STOPPED = "stopped"
DELETED = "deleted"
# About to be removed for good, with all its files; nobody gets to see one.
PURGED = "purged"

BY_USER = "user"
EXPIRED = "expired"
HOST_RESTARTED = "host-restarted"
MACHINE_DIED = "machine-died"


@dataclass(frozen=True)
class KeptDisk:
    """The disk that the last reset replaced, a file in the workspace's folder, and since when it is kept."""

    disk: str
    kept_at: str


@dataclass(frozen=True)
class WorkspaceRecord:
    """A workspace; `disk` names the file in its folder that is its disk.

    `process` is its VMM. A VMM in a record whose state is not `running` is one that has not come up yet, or was not
    seen to end: nobody wants it any more.
    """

    workspace_id: str
    environment: str
    digest: str
    vcpu_count: int
    mem_mib: int
    network_policy: str
    created_at: str
    vmm: str
    disk: str
    state: str = CREATING
    name: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    seed: SeedInfo | None = None
    ttl_seconds: int | None = None
    expires_at: str | None = None
    stopped_because: str | None = None
    deleted_at: str | None = None
    process: Detached | None = None
    kept: KeptDisk | None = None

    @property
    def disks(self) -> tuple[str, ...]:
        """Its disk, and the one that its last reset replaced, if that is kept."""
        return (self.disk,) if self.kept is None else (self.disk, self.kept.disk)


def now() -> datetime:
    """The time, in UTC and whole seconds, as it is written down."""
    return datetime.now(UTC).replace(microsecond=0)


def after(moment: str, span: timedelta) -> str:
    """A written time and a span later."""
    return (datetime.fromisoformat(moment) + span).isoformat()


def is_past(moment: str) -> bool:
    """Whether a written time has been reached."""
    return datetime.fromisoformat(moment) <= now()
