"""An SDK that answers at once and notes what it was asked."""

from collections.abc import Callable
from typing import Any, Self

from pyro_mcp.errors import NotFound
from pyro_mcp.events import OutputChunk
from pyro_mcp.models import (
    EnvironmentInfo,
    Progress,
    PruneReport,
    RunFinished,
    RunRequest,
    TemplateFacts,
    TemplateInfo,
)

MACHINE = ("qemu", 1, 1024, "2026-01-02T03:04:05Z")
INSTALLED = EnvironmentInfo(
    "debian:12",
    "what an agent reaches for",
    True,
    ("git",),
    digest="sha256:abc",
    size_bytes=3 << 20,
    source="https://mirror.invalid/debian",
    installed_at="2026-01-02T03:04:05Z",
    contents=("bash 5.2", "git 2.39"),
    templates=(
        TemplateInfo(
            "0123",
            130 << 20,
            "2026-01-03T03:04:05Z",
            TemplateFacts("debian:12", "sha256:abc", *MACHINE, 1730, 118),
            1612,
        ),
        TemplateInfo("4567", 1 << 20, "2026-01-03T03:04:05Z", TemplateFacts("debian:12", "sha256:old", *MACHINE, 1730)),
    ),
)
MISSING = EnvironmentInfo("debian:12-base", "minimal", False, ())


class FakeStream(list[object]):
    """A run that writes a little and ends with 3."""

    def __init__(self) -> None:
        super().__init__([OutputChunk("stdout", b"out\n"), RunFinished("debian:12", "qemu", 3, False, 1234)])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class FakePyro:
    """Answers like the SDK and notes what it was asked."""

    asked: list[tuple[Any, ...]]

    def list_environments(self) -> tuple[EnvironmentInfo, ...]:
        return (INSTALLED, MISSING)

    def inspect_environment(self, name: str) -> EnvironmentInfo:
        for info in (INSTALLED, MISSING):
            if info.name == name:
                return info
        raise NotFound("unknown_environment", f"there is no environment named {name!r}", "pyro env list")

    def pull_environment(
        self, name: str, *, source: str | None, on_progress: Callable[[Progress], None]
    ) -> EnvironmentInfo:
        self.asked.append((name, source))
        on_progress(Progress("pull", "download", name))
        return self.inspect_environment(name)

    def stream_in_vm(self, request: RunRequest) -> FakeStream:
        self.asked.append((request,))
        return FakeStream()

    def prune_environments(self, *, dry_run: bool) -> PruneReport:
        return PruneReport(("debian:11", "staging/x"), 5 << 20, dry_run)
