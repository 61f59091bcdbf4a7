"""A source for tests of the store: its images are small files, and it can be held up or made to fail on the way."""

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path

from pyro_mcp.images.catalog import Environment
from pyro_mcp.images.source import Built, Report, Reporter
from pyro_mcp.models import Progress


@dataclass
class FakeSource:
    """Builds `content`. While `held`, a build says that it `began` and goes no further."""

    content: bytes = b"an image"
    request: str = "fake"
    failure: Exception | None = None
    builds: int = 0
    began: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    held: bool = False

    async def build(self, environment: Environment, folder: Path, report: Report) -> Built:
        self.builds += 1
        assert not os.listdir(folder)
        Reporter(environment.name, report)("install", "a package", done=1, total=1, unit="packages")
        image = folder / "built.sqfs"
        image.write_bytes(self.content)
        self.began.set()
        if self.held:
            await self.go_on.wait()
        if self.failure is not None:
            raise self.failure
        return Built(image, ("less 1.0", "patch 2.0"), "a fake mirror")


class Seen:
    """Keeps what was reported; a test may wait for a phase."""

    def __init__(self) -> None:
        self.progress: list[Progress] = []
        self._news = asyncio.Event()

    def __call__(self, progress: Progress) -> None:
        self.progress.append(progress)
        self._news.set()

    @property
    def phases(self) -> list[str]:
        return [progress.phase for progress in self.progress]

    async def phase(self, wanted: str) -> None:
        """Wait until a step of that phase was reported; `TimeoutError` after 30 s."""
        async with asyncio.timeout(30):
            while wanted not in self.phases:
                self._news.clear()
                await self._news.wait()
