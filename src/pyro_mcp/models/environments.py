"""Environments: what can run in a VM, and what is installed of it."""

from dataclasses import dataclass

from pyro_mcp.models.event import Event


@dataclass(frozen=True)
class EnvironmentInfo(Event):
    """An environment of the catalog and what is installed of it. `size_bytes` is what it takes on disk."""

    name: str
    description: str
    installed: bool
    packages: tuple[str, ...]
    digest: str | None = None
    size_bytes: int | None = None
    source: str | None = None
    installed_at: str | None = None
    contents: tuple[str, ...] = ()


@dataclass(frozen=True)
class PullRequest:
    """Install an environment; `source` is another place to take it from than the default."""

    source: str | None = None


@dataclass(frozen=True)
class PruneRequest:
    """Remove what nothing uses, or only say what that would be."""

    dry_run: bool = False


@dataclass(frozen=True)
class PruneReport:
    """What `env prune` removed, or would remove, and the bytes that it freed or would free."""

    removed: tuple[str, ...]
    freed_bytes: int
    dry_run: bool
