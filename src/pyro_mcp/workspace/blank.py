"""The disks that workspaces begin with."""

import os
from pathlib import Path

from pyro_mcp.images import disk
from pyro_mcp.images.store import Store

DISK_MIB = 8 * 1024


async def blank_disk(images: Store, path: Path) -> None:
    """A blank disk of 8 GiB, all of it a hole, at `path`. Raises `HostUnfit` when there is no room for it."""
    blank = await disk.open_blank(images.cache_dir, DISK_MIB << 20)
    try:
        await disk.clone_to(blank, path)
    finally:
        os.close(blank)
