"""Workspaces that are made, changed, reset, restored and removed for good."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class CreateWorkspace:
    """A workspace to make. `mem_mib` in MiB; `ttl_seconds` after which it is stopped (not deleted), None: never.

    `seed_path` is a folder or a .tar, .tar.gz, .tgz or .tar.zst. Of a git checkout what git sees goes in (tracked
    files, untracked ones that are not ignored, and `.git`), unless `seed_all`.
    """

    environment: str
    vcpu_count: int = 1
    mem_mib: int = 1024
    ttl_seconds: int | None = None
    network_policy: str = "off"
    seed_path: str | None = None
    seed_all: bool = False
    name: str | None = None
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class UpdateWorkspace:
    """Changes of a workspace's name and labels; `name` sets, `clear_name` removes it."""

    name: str | None = None
    clear_name: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    clear_labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class ResetWorkspace:
    """Back to a snapshot; only `baseline`, the state after creation, exists in this version."""

    snapshot: str = "baseline"


@dataclass(frozen=True)
class RestoreWorkspace:
    """Bring a deleted workspace back, or the disk that the last reset replaced; `name` instead of one now in use."""

    name: str | None = None


@dataclass(frozen=True)
class PruneWorkspaces:
    """Remove for good what was deleted or replaced by a reset; one workspace's if `workspace` names it, else all."""

    workspace: str | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class PrunedWorkspaces:
    """What was removed for good, or would be: lines such as `workspace w-1a2b` or `disk of w-1a2b before its reset`."""

    removed: tuple[str, ...]
    freed_bytes: int
    dry_run: bool
