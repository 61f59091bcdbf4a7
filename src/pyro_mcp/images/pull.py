"""Installs an environment: builds it aside, checks it, and swaps it in by renames."""

import asyncio
import errno
import os
import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path

from pyro_mcp import digests
from pyro_mcp.errors import HostUnfit
from pyro_mcp.images import catalog, locks, prune, staging
from pyro_mcp.images.catalog import Environment
from pyro_mcp.images.rootfs import no_disk_space
from pyro_mcp.images.source import Built, Report, Reporter, Source
from pyro_mcp.images.store import (
    IMAGE_FILE,
    MANIFEST_FILE,
    Manifest,
    Reference,
    Store,
    inspect,
    manifest,
    reference,
    sync_folder,
    write_json,
)
from pyro_mcp.models import EnvironmentInfo
from pyro_mcp.to_the_end import to_the_end

_MIB = 1024 * 1024


async def pull(
    store: Store, name: str, source: Source, report: Report, *, only_if_missing: bool = False
) -> EnvironmentInfo:
    """Install an environment, or install it anew; the old image stays until the new one has taken its place.

    Of several pulls at once of one environment, here or in other processes, one builds; the others wait (phase
    `waiting`) and take its result, unless they asked for another source. `only_if_missing` makes a pull of an
    installed environment do nothing. Raises `NotFound` for a name that is not in the catalog, and `HostUnfit` or
    `SourceFailed` when the build fails; then, and when cancelled, nothing has changed.
    """
    environment = catalog.lookup(name)
    progress = Reporter(name, report)
    store.prepare()
    try:
        before = reference(store, name)
        async with locks.for_long(store.pull_lock(name), lambda: progress("waiting")) as waited:
            if not _is_done(store, name, source, before, waited=waited, only_if_missing=only_if_missing):
                await _build_and_install(store, environment, source, progress, report)
        progress("done")
        return inspect(store, name)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_disk_space(f"the disk of {store.cache_dir} is full") from None
        raise


def _is_done(
    store: Store, name: str, source: Source, before: Reference | None, *, waited: bool, only_if_missing: bool
) -> bool:
    now = reference(store, name)
    if now is None or manifest(store, now.digest) is None:
        return False
    if only_if_missing:
        return True
    return waited and now != before and now.requested == source.request


async def _build_and_install(
    store: Store, environment: Environment, source: Source, progress: Reporter, report: Report
) -> None:
    await staging.sweep(store)
    _check_space(store.cache_dir, environment)
    async with staging.folder_for(store, environment.name) as folder:
        work = folder / "work"
        work.mkdir()
        built = await source.build(environment, work, report)
        progress("verify")
        made = await to_the_end(asyncio.to_thread(_lay_out, folder / "image", built))
        await to_the_end(asyncio.to_thread(_install, store, folder, made, environment.name, source.request))
    await prune.remove_unreferenced(store)


def _check_space(cache_dir: Path, environment: Environment) -> None:
    free = shutil.disk_usage(cache_dir).free
    if free < environment.build_bytes:
        need, have = (f"{amount // _MIB} MiB" for amount in (environment.build_bytes, free))
        error = no_disk_space(f"building {environment.name} needs {need} in {cache_dir}, and {have} are free")
        raise HostUnfit(error.code, error.message, error.hint)


def _lay_out(folder: Path, built: Built) -> Manifest:
    """Make a finished image folder: the image, on disk for good, and its manifest."""
    folder.mkdir()
    image = folder / IMAGE_FILE
    built.image.rename(image)
    image.chmod(0o444)
    fd = os.open(image, os.O_RDONLY)
    try:
        os.fsync(fd)
        size = os.fstat(fd).st_size
    finally:
        os.close(fd)
    made = Manifest(digests.sha256_of(image), size, built.origin, built.contents)
    write_json(folder / MANIFEST_FILE, made)
    return made


def _install(store: Store, folder: Path, made: Manifest, name: str, requested: str) -> None:
    target = store.image_folder(made.digest)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    sound = manifest(store, made.digest) == made and digests.matches(
        target / IMAGE_FILE, made.digest, target / "verified.json"
    )
    with store.lock():
        if target.exists() and not sound:
            target.rename(folder / "damaged")
        if not target.exists():
            (folder / "image").rename(target)
            sync_folder(store.images)
        write_json(store.reference_file(name), Reference(name, made.digest, uuid.uuid4().hex, requested, now))
