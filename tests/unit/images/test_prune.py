import asyncio
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pyro_mcp.images import store as stores
from pyro_mcp.images.prune import prune
from pyro_mcp.images.pull import pull
from pyro_mcp.images.store import OpenImage, Store
from pyro_mcp.models import PruneReport
from tests.unit.images.fake_source import FakeSource

OLD = os.urandom(500_000)


async def replaced_while_in_use(store: Store) -> OpenImage:
    """An image that no name stands for any more, but that is open."""
    await pull(store, "debian:12", FakeSource(OLD), lambda progress: None)
    image = await stores.open_verified(store, "debian:12")
    await pull(store, "debian:12", FakeSource(b"new"), lambda progress: None)
    assert len(os.listdir(store.images)) == 2
    return image


def debris(store: Store) -> Path:
    folder = store.staging / "debian%3a12-dead"
    folder.mkdir()
    (folder / "half").write_bytes(os.urandom(200_000))
    return folder


def process_with(fd: int) -> "subprocess.Popen[bytes]":
    """A process that has a copy of the descriptor until its standard input ends."""
    return subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[fd])


def free_bytes(folder: Path) -> int:
    stat = os.statvfs(folder)
    return stat.f_bfree * stat.f_frsize


async def test_a_clean_store_has_nothing_to_remove(store: Store) -> None:
    await pull(store, "debian:12", FakeSource(), lambda progress: None)
    assert await prune(store) == PruneReport((), 0, dry_run=False)
    assert stores.inspect(store, "debian:12").installed


async def test_a_store_that_never_was_has_nothing_to_remove(tmp_path: Path) -> None:
    assert await prune(Store(tmp_path / "cache")) == PruneReport((), 0, dry_run=False)


async def test_an_image_in_use_is_kept_until_it_is_closed(store: Store) -> None:
    with await replaced_while_in_use(store) as image:
        assert await prune(store) == PruneReport((), 0, dry_run=False)
        assert os.pread(image.fd, len(OLD), 0) == OLD
    size = stores.disk_usage(store.image_folder(image.digest))
    assert await prune(store) == PruneReport((f"image sha256-{image.digest}",), size, dry_run=False)
    assert size >= len(OLD)
    assert len(os.listdir(store.images)) == 1
    assert os.listdir(store.staging) == []


async def test_an_image_is_in_use_while_another_process_has_it(store: Store) -> None:
    with await replaced_while_in_use(store) as image:
        holder = process_with(image.fd)
    with holder:
        assert (await prune(store)).removed == ()
        holder.communicate()
    assert len((await prune(store)).removed) == 1


async def test_debris_is_removed_and_counted(store: Store) -> None:
    size = stores.disk_usage(debris(store))
    assert await prune(store) == PruneReport(("unfinished debian%3a12-dead",), size, dry_run=False)
    assert os.listdir(store.staging) == []


async def test_a_dry_run_says_the_same_and_removes_nothing(store: Store) -> None:
    (await replaced_while_in_use(store)).close()
    debris(store)
    planned = await prune(store, dry_run=True)
    assert len(planned.removed) == 2
    assert (len(os.listdir(store.images)), len(os.listdir(store.staging))) == (2, 1)
    done = await prune(store)
    assert (done.removed, done.freed_bytes) == (planned.removed, planned.freed_bytes)
    assert (planned.dry_run, done.dry_run) == (True, False)


async def test_the_bytes_are_those_that_the_disk_gets_back(small_file_system: Path) -> None:
    store = Store(small_file_system)
    store.prepare()
    debris(store)
    before = free_bytes(small_file_system)
    freed = (await prune(store)).freed_bytes
    assert freed == free_bytes(small_file_system) - before > 0


async def test_names_of_another_versions_catalog_keep_their_images(store: Store) -> None:
    await pull(store, "debian:12", FakeSource(), lambda progress: None)
    os.rename(store.reference_file("debian:12"), store.reference_file("debian:99"))
    assert (await prune(store)).removed == ()


async def test_rubbish_among_the_images_is_removed(store: Store) -> None:
    (store.images / "sha256-nothing").mkdir()
    assert (await prune(store)).removed == ("image sha256-nothing",)


@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_pull_under_way_is_left_alone(store: Store, dry_run: bool) -> None:
    source = FakeSource(held=True)
    task = asyncio.create_task(pull(store, "debian:12", source, lambda progress: None))
    await source.began.wait()
    assert (await prune(store, dry_run=dry_run)).removed == ()
    source.go_on.set()
    assert (await task).installed


@pytest.mark.parametrize("dry_run", [True, False])
async def test_what_somebody_was_killed_over_while_it_was_written(store: Store, dry_run: bool) -> None:
    """What is written under the lock at once; what others may be writing only when it is old."""
    await pull(store, "debian:12", FakeSource(), lambda progress: None)
    (image,) = store.images.iterdir()
    (store.cache_dir / "uses").mkdir()
    (store.cache_dir / "templates").mkdir()
    under_lock = [store.cache_dir / "uses" / ".0123.json.17.tmp", store.environments / ".debian%3a12.json.17.tmp"]
    others = [store.cache_dir / ".kvm.json.17.tmp", image / ".verified.json.17.tmp"]
    others.append(store.cache_dir / "templates" / ".trouble.json.17.tmp")
    for file in (*under_lock, *others):
        file.write_text("{")
    size = sum(stores.disk_usage(file) for file in under_lock)
    names = ("half-written environments/.debian%3a12.json.17.tmp", "half-written uses/.0123.json.17.tmp")
    assert await prune(store, dry_run=dry_run) == PruneReport(names, size, dry_run)
    assert [file.exists() for file in (*under_lock, *others)] == [dry_run, dry_run, True, True, True]
    for file in others:
        os.utime(file, (0, 0))
    assert set((await prune(store)).removed) >= {f"half-written {file.relative_to(store.cache_dir)}" for file in others}
    assert not any(file.exists() for file in (*under_lock, *others))
    assert stores.inspect(store, "debian:12").installed


def test_what_is_being_written_under_the_lock_is_waited_for(store: Store) -> None:
    uses = store.cache_dir / "uses"
    uses.mkdir()
    with ThreadPoolExecutor(1) as other:
        with store.lock():
            (uses / ".0123.json.17.tmp").write_text("{}")
            pruning = other.submit(asyncio.run, prune(store))
            time.sleep(0.1)
            (uses / ".0123.json.17.tmp").rename(uses / "0123.json")
        assert pruning.result().removed == ()
