"""Environments: what can run in a VM, and what is installed of it."""

from dataclasses import dataclass

from pyro_mcp.models.event import Event


@dataclass(frozen=True)
class TemplateFacts:
    """What is known of a template: which machines begin from it (`mem_mib` in MiB) and what that saves, as measured.

    `environment` and `digest` are the image's, None where that has no name (any more). `boot_ms` is what it took to
    boot it until its agent waited, None where that was lost, `copy_ms` what the quickest copy took until its agent
    answered, None until there was one. Machines that are `throwaway` run one command; others are workspaces'.
    """

    environment: str | None
    digest: str | None
    vmm: str
    vcpu_count: int
    mem_mib: int
    made_at: str
    boot_ms: int | None
    copy_ms: int | None = None
    throwaway: bool = False

    @property
    def saved_ms(self) -> int | None:
        """What a copy saves; negative where booting is quicker."""
        return None if self.copy_ms is None or self.boot_ms is None else self.boot_ms - self.copy_ms

    @property
    def machine(self) -> str:
        """The machine in words."""
        cpus = "1 vCPU" if self.vcpu_count == 1 else f"{self.vcpu_count} vCPUs"
        use = "runs" if self.throwaway else "workspaces"
        return f"{self.environment or 'an image without a name'}, {cpus}, {self.mem_mib} MiB, {self.vmm}, for {use}"

    @property
    def saving(self) -> str:
        """What a copy saves, in words."""
        if self.boot_ms is None:
            return "what it saves is not known"
        if self.copy_ms is None or self.saved_ms is None:
            return f"no machine has begun from it yet; booting took {_seconds(self.boot_ms)}"
        times = f"({_seconds(self.copy_ms)} instead of {_seconds(self.boot_ms)})"
        return f"saves {_seconds(self.saved_ms)} per machine {times}" if self.saved_ms > 0 else f"saves nothing {times}"


@dataclass(frozen=True)
class TemplateInfo:
    """A template in the cache. `size_bytes` is what it takes on disk; without `facts`, no more is known.

    `unused` is why no machine of this pyro would begin from it, in words; it saves nothing then.
    """

    name: str
    size_bytes: int
    used_at: str
    facts: TemplateFacts | None = None
    saved_ms: int | None = None
    unused: str | None = None


@dataclass(frozen=True)
class EnvironmentInfo(Event):
    """An environment of the catalog and what is installed of it. `size_bytes` is what it takes on disk.

    `contents` and `templates`, from which its machines begin, are told where one environment is asked for, with those
    templates of which nobody knows what they are of.
    """

    name: str
    description: str
    installed: bool
    packages: tuple[str, ...]
    digest: str | None = None
    size_bytes: int | None = None
    source: str | None = None
    installed_at: str | None = None
    contents: tuple[str, ...] = ()
    templates: tuple[TemplateInfo, ...] = ()


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


def _seconds(milliseconds: int) -> str:
    seconds = milliseconds / 1000
    return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
