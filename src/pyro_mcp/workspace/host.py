"""What features need of this host: its environments, runtime bundle, and a way to run machines."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyro_mcp.errors import HostUnfit
from pyro_mcp.runtime.bundle import find_bundle
from pyro_mcp.vmm.qemu import QemuDriver

if TYPE_CHECKING:
    from pyro_mcp.config import Settings
    from pyro_mcp.images.store import Store
    from pyro_mcp.runtime.bundle import RuntimeBundle


@dataclass(frozen=True)
class Host:
    """`boot_slots` is shared by all that boot machines on this host (see `default_boot_slots`)."""

    images: "Store"
    bundle: "RuntimeBundle"
    driver: QemuDriver
    boot_slots: asyncio.Semaphore


FindHost = Callable[[], Awaitable[Host]]


def default_boot_slots() -> asyncio.Semaphore:
    """As many machines may boot at once as there are processors.

    More would only make each boot slower, until healthy guests look like hung ones.
    """
    return asyncio.Semaphore(os.cpu_count() or 1)


def choose_driver(settings: "Settings", *, confined: bool) -> QemuDriver:
    """The VMM for this host. Raises `HostUnfit` for one that this version of pyro cannot drive."""
    if settings.vmm == "firecracker":
        raise HostUnfit(
            "vmm_unsupported",
            "PYRO_VMM=firecracker, but this version of pyro runs guests under QEMU alone",
            "unset PYRO_VMM or set PYRO_VMM=qemu",
        )
    return QemuDriver(confined=confined)


async def verified_host(
    settings: "Settings", images: "Store", boot_slots: asyncio.Semaphore, *, confined: bool
) -> Host:
    """This host with its runtime bundle checked. Raises `HostUnfit` or `NotFound` where machines cannot be run."""
    bundle = find_bundle(settings)
    # Hashes the whole bundle where it has changed since the last time.
    await asyncio.to_thread(bundle.verify)
    return Host(images, bundle, choose_driver(settings, confined=confined), boot_slots)
