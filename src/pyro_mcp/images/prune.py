"""Removes what nothing uses: images that no environment stands for, and what dead processes left.

An installed environment is never removed, and no image that a VM has open or that a workspace will boot from again.
"""

import asyncio
import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from pyro_mcp.errors import HostUnfit
from pyro_mcp.images import locks, staging, uses
from pyro_mcp.images.confine import remove_tree
from pyro_mcp.images.store import IMAGE_FILE, Store, disk_usage, references, unusable
from pyro_mcp.models import PruneReport
from pyro_mcp.to_the_end import to_the_end

_OLD_SECONDS = 3600.0  # which nobody takes to write a small file


async def prune(store: Store, *, dry_run: bool = False) -> PruneReport:
    """Remove it, or with `dry_run` only say what would be removed; `freed_bytes` counts disk blocks.

    It needs no space itself. Raises `HostUnfit` where something cannot be removed, after all that can be.
    """
    store.prepare()
    names, freed, failed = list[str](), 0, list[OSError]()
    for step in (_unfinished, _half_written, _unreferenced):
        try:
            removed, size = await step(store, dry_run=dry_run)
        except OSError as error:
            failed.append(error)
        else:
            names.extend(removed)
            freed += size
    report = PruneReport(tuple(names), freed, dry_run)
    if failed:
        raise partly(unusable(store.cache_dir, failed[0]), report) from failed[0]
    return report


def partly(error: HostUnfit, report: PruneReport) -> HostUnfit:
    """The error for what could not be removed, with what was removed all the same."""
    if report.dry_run or not report.removed:
        return error
    removed = f"{', '.join(report.removed)} ({report.freed_bytes / (1 << 20):.1f} MiB)"
    return HostUnfit(error.code, f"{error.message}; removed: {removed}", error.hint)


async def remove_unreferenced(store: Store) -> tuple[tuple[str, ...], int]:
    """Remove images that no environment stands for and nobody has open or needs; returns names and bytes on disk.

    They go to the staging folder first, as what somebody left unfinished: whoever is killed here leaves no half image.
    """
    aside: list[Path] = []
    with contextlib.ExitStack() as held:
        try:
            with _idle_images(store) as images:
                uses.sweep(store)
                found = _count(images)
                for image in images:
                    _take_away(store, image, aside, held)
        finally:
            await to_the_end(_remove_trees(aside))
    return found


async def _remove_trees(folders: list[Path]) -> None:
    for folder in folders:
        await remove_tree(folder)


def _take_away(store: Store, image: Path, aside: list[Path], held: contextlib.ExitStack) -> None:
    """Add it to those set `aside`, locked for as long as `held` lasts; what is no folder is removed at once."""
    try:
        fd = os.open(image, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except NotADirectoryError:
        image.unlink()
        return
    held.callback(os.close, fd)
    locks.try_lock(fd)
    target = store.staging / f"prune-{secrets.token_hex(8)}"
    try:
        image.rename(target)
        aside.append(target)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        # There is not even room for a name. Without its file it is no image, should somebody be killed here.
        (image / IMAGE_FILE).unlink(missing_ok=True)
        shutil.rmtree(image)


async def _unfinished(store: Store, *, dry_run: bool) -> tuple[tuple[str, ...], int]:
    """Remove what dead processes left; returns names and bytes on disk."""
    with staging.stale_folders(store) as stale:
        names = tuple(f"unfinished {each.folder.name}" for each in stale)
        freed = sum(disk_usage(each.folder) for each in stale)
        for each in () if dry_run else stale:
            await remove_tree(each.folder)
    return names, freed


async def _half_written(store: Store, *, dry_run: bool) -> tuple[tuple[str, ...], int]:
    """See `_remove_half_written`."""
    return await asyncio.to_thread(_remove_half_written, store, dry_run=dry_run)


def _remove_half_written(store: Store, *, dry_run: bool) -> tuple[tuple[str, ...], int]:
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


async def _unreferenced(store: Store, *, dry_run: bool) -> tuple[tuple[str, ...], int]:
    """See `remove_unreferenced`."""
    if not dry_run:
        return await remove_unreferenced(store)
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
