"""What a source of root file systems is: the seam between the store and where environments come from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pyro_mcp.images.catalog import Environment
from pyro_mcp.models import Progress

Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Built:
    """What a source made: a squashfs file, what is in it ("package version" lines) and where it came from."""

    image: Path
    contents: tuple[str, ...]
    origin: str


class Source(Protocol):
    """Builds root file systems.

    `request` says in the user's words which source this is; two pulls at once share one build only if it is the same.
    """

    @property
    def request(self) -> str: ...

    async def build(self, environment: Environment, folder: Path, report: Report) -> Built:
        """Build into `folder`, which is empty and goes away afterwards whatever happens.

        Raises `HostUnfit` or `SourceFailed`. When this returns or raises, also by cancellation, no process and no
        mount of its own is left.
        """
        ...


class Reporter:
    """Reports the progress of one pull."""

    def __init__(self, environment: str, report: Report) -> None:
        self._environment = environment
        self._report = report

    def __call__(
        self, phase: str, detail: str = "", *, done: int | None = None, total: int | None = None, unit: str = ""
    ) -> None:
        self._report(Progress("pull", phase, self._environment, detail, done, total, unit))
