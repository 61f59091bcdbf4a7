"""What several checks need and one finds out for all of them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from pyro_mcp import digests
from pyro_mcp.config import Settings
from pyro_mcp.errors import HostUnfit
from pyro_mcp.images.store import Store
from pyro_mcp.runtime.bundle import RuntimeBundle, find_bundle
from pyro_mcp.vmm import confine
from pyro_mcp.workspace.host import Host, choose_driver, default_boot_slots

T = TypeVar("T")


class Once(Generic[T]):
    """Something that is found out the first time that it is wanted; an error is kept for all who ask, too."""

    def __init__(self, find: Callable[[], Awaitable[T]]) -> None:
        self._find = find
        self._found: asyncio.Future[T] | None = None

    async def get(self) -> T:
        """Wait for it; cancelling one who waits leaves the others waiting."""
        if self._found is None:
            self._found = asyncio.ensure_future(self._find())
        return await asyncio.shield(self._found)


class Shared:
    """The facts of one examination."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.images = Store(settings.cache_dir)
        self._boot_slots = default_boot_slots()
        self.bundle = Once(self._whole_bundle)
        self.unconfinable = Once(confine.why_unconfinable)

    async def host(self) -> Host:
        """What features get to run machines with. Raises `HostUnfit` where they could not either."""
        bundle = await self.bundle.get()
        confined = await self.unconfinable.get() is None
        return Host(self.images, bundle, choose_driver(self.settings, confined=confined), self._boot_slots)

    async def _whole_bundle(self) -> RuntimeBundle:
        bundle = find_bundle(self.settings)
        damaged = await asyncio.to_thread(_damaged_files, bundle)
        if damaged:
            what = f"in the runtime bundle {bundle.folder}, {'; '.join(damaged)}"
            raise HostUnfit("corrupt_runtime_bundle", what, bundle.mending)
        return bundle


def _damaged_files(bundle: RuntimeBundle) -> list[str]:
    """What is wrong with which file; every byte is read, whatever was found and remembered earlier."""
    damaged = []
    for file in bundle.manifest.files:
        try:
            if digests.sha256_of(bundle.folder / file.path) != file.sha256:
                damaged.append(f"{file.path} is not what the manifest says")
        except OSError as error:
            damaged.append(f"{file.path} cannot be read ({error.strerror})")
    return damaged
