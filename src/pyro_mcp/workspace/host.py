"""What features need of this host: its environments, runtime bundle, and a way to run machines."""

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pyro_mcp.runtime.bundle import find_bundle
from pyro_mcp.workspace.vmm_choice import VmmChoice

if TYPE_CHECKING:
    from pyro_mcp.config import Settings
    from pyro_mcp.images.store import Store
    from pyro_mcp.runtime.bundle import RuntimeBundle
    from pyro_mcp.vmm.machine import Driver
    from pyro_mcp.workspace.templates import Templates


@dataclass(frozen=True)
class Host:
    """`boot_slots` is shared by all that boot machines on this host (see `default_boot_slots`). `notice` is something
    that whoever is about to boot a machine should be told. Without `templates` every machine boots."""

    images: "Store"
    bundle: "RuntimeBundle"
    driver: "Driver"
    boot_slots: asyncio.Semaphore
    notice: str | None = None
    templates: "Templates | None" = None


class FindHost(Protocol):
    """Finds this host for a machine that is about to start."""

    async def __call__(self, *, quiet: bool = False) -> Host:
        """`quiet` is for those who cannot pass its `notice` on: it has none then."""
        ...


def default_boot_slots() -> asyncio.Semaphore:
    """As many machines may boot at once as there are processors.

    More would only make each boot slower, until healthy guests look like hung ones.
    """
    return asyncio.Semaphore(os.cpu_count() or 1)


async def verified_host(
    settings: "Settings",
    images: "Store",
    boot_slots: asyncio.Semaphore,
    choice: VmmChoice,
    templates: "Templates | None" = None,
    *,
    quiet: bool = False,
) -> Host:
    """This host with its runtime bundle checked. Raises `HostUnfit` or `NotFound` where machines cannot be run.

    If `quiet` it has no notice, as with `VmmChoice.choose`.
    """
    bundle = find_bundle(settings)
    # Hashes the whole bundle where it has changed since the last time.
    await asyncio.to_thread(bundle.verify)
    chosen = await choice.choose(bundle, quiet=quiet)
    return Host(images, bundle, chosen.driver, boot_slots, chosen.notice, templates)
