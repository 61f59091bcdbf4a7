"""Removes what nothing uses: images that no environment stands for, and what dead processes left.

An installed environment is never removed, and no image that a VM has open or that a workspace will boot from again.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from pyro_mcp.images import locks, staging, uses
from pyro_mcp.images.confine import remove_tree
from pyro_mcp.images.store import IMAGE_FILE, Store, disk_usage, references
from pyro_mcp.models import PruneReport

_OLD_SECONDS = 3600.0  # which nobody takes to write a small file


async def prune(store: Store, *, dry_run: bool = False) -> PruneReport:
    """Remove it, or with `dry_run` only say what would be removed; `freed_bytes` counts disk blocks."""
    store.prepare()
    with staging.stale_folders(store) as stale:
        removed = [f"unfinished {each.folder.name}" for each in stale]
        freed = sum(disk_usage(each.folder) for each in stale)
        if not dry_run:
            for each in stale:
                await remove_tree(each.folder)
    halves, half_bytes = await asyncio.to_thread(_half_written, store, dry_run=dry_run)
    images, image_bytes = _unreferenced(store) if dry_run else await remove_unreferenced(store)
    return PruneReport((*removed, *halves, *images), freed + half_bytes + image_bytes, dry_run)


async def remove_unreferenced(store: Store) -> tuple[tuple[str, ...], int]:
    """Remove images that no environment stands for and nobody has open or needs; returns names and bytes on disk."""
    async with staging.folder_for(store, "prune") as folder:
        with _idle_images(store) as images:
            uses.sweep(store)
            found = _count(images)
            for image in images:
                image.rename(folder / image.name)
    return found


def _half_written(store: Store, *, dry_run: bool) -> tuple[tuple[str, ...], int]:
    """Remove the files over which somebody was killed while they wrote them; returns names and bytes on disk.

    Some are only written under the store's lock, which nobody else has now; the others have to be old.
    """
    with store.lock():
        under_lock = (uses.folder(store), store.environments)
        cache = store.cache_dir
        there = [*cache.glob(".*.tmp"), *cache.glob("*/.*.tmp"), *store.images.glob("*/.*.tmp")]
        found = sorted(file for file in there if file.parent in under_lock or _is_old(file))
        freed = sum(disk_usage(file) for file in found)
        for file in () if dry_run else found:
            file.unlink(missing_ok=True)
    return tuple(f"half-written {file.relative_to(cache)}" for file in found), freed


def _is_old(file: Path) -> bool:
    try:
        return time.time() - file.lstat().st_mtime > _OLD_SECONDS
    except FileNotFoundError:
        return False


def _unreferenced(store: Store) -> tuple[tuple[str, ...], int]:
    with _idle_images(store) as images:
        return _count(images)


def _count(images: tuple[Path, ...]) -> tuple[tuple[str, ...], int]:
    return tuple(f"image {image.name}" for image in images), sum(disk_usage(image) for image in images)


@contextlib.contextmanager
def _idle_images(store: Store) -> Iterator[tuple[Path, ...]]:
    """The images to remove; under the store's lock, so that nobody can open one of them meanwhile."""
    with store.lock():
        digests = {each.digest for each in references(store)} | uses.needed(store)
        wanted = {store.image_folder(digest) for digest in digests}
        yield tuple(each for each in sorted(store.images.iterdir()) if each not in wanted and _is_idle(each))


def _is_idle(folder: Path) -> bool:
    try:
        fd = os.open(folder / IMAGE_FILE, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return True
    try:
        return locks.try_lock(fd)
    finally:
        os.close(fd)
