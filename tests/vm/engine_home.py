"""A PYRO_HOME with the engine in the test's own process: no daemon, no command line, real machines."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pyro_mcp.config import Settings
from pyro_mcp.images.store import Store
from pyro_mcp.models import Progress
from pyro_mcp.process import Detached
from pyro_mcp.vmm import confine
from pyro_mcp.workspace.engine import Workspaces
from pyro_mcp.workspace.host import default_boot_slots, verified_host
from pyro_mcp.workspace.records import Records
from pyro_mcp.workspace.templates import Templates
from pyro_mcp.workspace.vmm_choice import VmmChoice
from pyro_mcp.workspace_models import CreateWorkspace, PruneWorkspaces

SMALL = CreateWorkspace("debian:12", mem_mib=512)


@dataclass(frozen=True)
class Home:
    """A PYRO_HOME of its own, over the user's own environments."""

    settings: Settings

    @property
    def path(self) -> Path:
        return self.settings.home

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator[Workspaces]:
        """The engine of one daemon, from its start to its end."""
        images = Store(self.settings.cache_dir)
        confined = await confine.why_unconfinable() is None
        choice = VmmChoice(self.settings, confined=confined)
        templates = Templates(self.settings.cache_dir / "templates")
        find_host = partial(verified_host, self.settings, images, default_boot_slots(), choice, templates)
        workspaces = Workspaces(self.path, images, find_host)
        await workspaces.open()
        try:
            yield workspaces
        finally:
            await workspaces.close()

    def vmm(self, workspace: str) -> Detached:
        """What is written down of a workspace's VMM."""
        records = Records(self.path)
        process = records.get(workspace).process
        records.close()
        assert process is not None
        return process

    async def clear(self) -> None:
        """Take all workspaces away for good."""
        async with self.daemon() as workspaces:
            for info in workspaces.list(deleted=False):
                await workspaces.delete(info.workspace_id)
            await workspaces.prune(PruneWorkspaces())
            assert workspaces.list(deleted=True) == ()


async def nobody(_progress: Progress) -> None:
    """Nobody wants to know."""
