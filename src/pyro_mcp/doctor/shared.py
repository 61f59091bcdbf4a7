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
from pyro_mcp.vmm.kvm import KvmState, KvmVerdict
from pyro_mcp.vmm.machine import Driver
from pyro_mcp.vmm.qemu import QemuDriver
from pyro_mcp.workspace.host import Host, default_boot_slots
from pyro_mcp.workspace.vmm_choice import VmmChoice

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
        self.kvm = Once(self._prove_kvm)

    async def host(self) -> Host:
        """What features get to run machines with. Raises `HostUnfit` where they could not either."""
        bundle, verdict, choice = await self.bundle.get(), await self.kvm.get(), await self._choice()
        return self._host(bundle, choice.driver(bundle, verdict))

    async def host_without_kvm(self) -> Host:
        """The same where there is no KVM. Raises `HostUnfit`."""
        confined = await self.unconfinable.get() is None
        return self._host(await self.bundle.get(), QemuDriver(confined=confined))

    async def kvm_works(self) -> bool:
        """Whether KVM runs guests here; where it could not even be tried, it does not."""
        try:
            return (await self.kvm.get()).state is KvmState.WORKS
        except HostUnfit:
            return False

    def _host(self, bundle: RuntimeBundle, driver: Driver) -> Host:
        return Host(self.images, bundle, driver, self._boot_slots)

    async def _choice(self) -> VmmChoice:
        return VmmChoice(self.settings, confined=await self.unconfinable.get() is None)

    async def _prove_kvm(self) -> KvmVerdict:
        """Whatever was found earlier, KVM is proved afresh."""
        return await (await self._choice()).prove(await self.bundle.get())

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
