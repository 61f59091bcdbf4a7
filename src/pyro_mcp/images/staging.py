"""Folders for work under way, on the same file system as the store so that a rename installs what they hold.

A folder is locked by the process that works in it. One that can be locked by somebody else was left behind by a process
that is gone.
"""

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from pyro_mcp.images import locks
from pyro_mcp.images.confine import remove_tree
from pyro_mcp.images.store import Store, file_name
from pyro_mcp.to_the_end import to_the_end


@dataclass(frozen=True)
class Stale:
    """A folder that a dead process left, locked by us through `fd`."""

    folder: Path
    fd: int


@contextlib.asynccontextmanager
async def folder_for(store: Store, name: str) -> AsyncIterator[Path]:
    """A folder for one piece of work, empty at first and removed at the end, whatever the end is."""
    with store.lock():
        folder = Path(tempfile.mkdtemp(prefix=f"{file_name(name)}-", dir=store.staging))
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        locks.try_lock(fd)
    try:
        yield folder
    finally:
        try:
            await to_the_end(remove_tree(folder))
        finally:
            os.close(fd)


@contextlib.contextmanager
def stale_folders(store: Store) -> Iterator[tuple[Stale, ...]]:
    """What dead processes left; locked while the context lasts, so that two sweepers do not meet."""
    found: list[Stale] = []
    try:
        with store.lock():
            for folder in sorted(store.staging.iterdir()):
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                    if locks.try_lock(fd):
                        found.append(Stale(folder, fd))
                    else:
                        os.close(fd)
        yield tuple(found)
    finally:
        for stale in found:
            os.close(stale.fd)


async def sweep(store: Store) -> None:
    """Remove what dead processes left."""
    with stale_folders(store) as stale:
        for each in stale:
            await remove_tree(each.folder)
