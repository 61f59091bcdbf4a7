"""`make bench`: how pyro compares with the bare thing below it, measured side by side in one run.

Every figure is a ratio of interleaved measurements, because machines differ and drift; the bound beside it is what the
product promises. A ratio above its bound makes the run end with exit code 1.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pyro_mcp.config import Settings
from pyro_mcp.images import store
from pyro_mcp.images.store import Store
from pyro_mcp.runtime.bundle import find_bundle
from pyro_mcp.sdk import Pyro
from pyro_mcp.vmm import confine
from pyro_mcp.vmm.qemu import QemuDriver
from pyro_mcp.workspace.boot import Guest, boot_guest
from pyro_mcp.workspace.host import Host, default_boot_slots
from tests.bench import boot, jail, listing, live, mcp_start, pool, startup, workspaces
from tests.bench.bare import bare_machine
from tests.bench.report import print_table


async def main() -> int:
    settings = Settings.from_environment()
    images, bundle = Store(settings.cache_dir), find_bundle(settings)
    if not store.inspect(images, "debian:12").installed:
        await asyncio.to_thread(Pyro(settings).pull_environment, "debian:12")
    with tempfile.TemporaryDirectory() as folder:
        async with bare_machine(bundle, images, Path(folder)) as bare:
            ratios = [startup.version_against_bare_python(), *mcp_start.list_of_tools(), listing.list_over_start_up()]
            ratios += boot.run_against_bare_boot(bare, Path(folder))
            ratios.append(await pool.create_when_one_is_ready(settings))
            async with _guest(settings) as guest:
                ratios.append(await live.exec_round_trip(guest, bare))
                ratios.append(await workspaces.exec_over_the_sdk(guest.client, settings))
                ratios.append(await workspaces.sync_against_tar(guest.client, settings, Path(folder)))
            ratios.append(await asyncio.to_thread(workspaces.diff_by_size, settings, Path(folder)))
            flood, memory = await asyncio.to_thread(live.throughput, bare, settings)
            ratios += flood
            if os.geteuid() == 0:  # Firecracker's jailer is for root alone
                ratios += await jail.sandbox_against_jailer(bundle, bare.spec.image, Path(folder))
    print_table(ratios)
    print(memory)
    return 0 if all(ratio.holds for ratio in ratios) else 1


@asynccontextmanager
async def _guest(settings: Settings) -> AsyncIterator[Guest]:
    """A guest that this process talks to itself, under the VMM of the bare machine."""
    confined = await confine.why_unconfinable() is None
    images = Store(settings.cache_dir)
    host = Host(images, find_bundle(settings), QemuDriver(confined=confined), default_boot_slots())
    with await store.open_verified(images, "debian:12") as image:
        async with boot_guest(host, image.path, vcpu_count=1, mem_mib=1024) as guest:
            yield guest


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
