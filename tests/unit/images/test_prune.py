import asyncio
import errno
import os
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pyro_mcp.errors import HostUnfit
from pyro_mcp.images import confine
from pyro_mcp.images import prune as pruning
from pyro_mcp.images import store as stores
from pyro_mcp.images.prune import prune
from pyro_mcp.images.pull import pull
from pyro_mcp.images.store import OpenImage, Store
from pyro_mcp.models import PruneReport
from tests.unit.images.conftest import fill
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


def _full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_a_full_disk_has_space_afterwards(small_file_system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the tests has room for a folder even then, which others have not."""
    store = Store(small_file_system)
    store.prepare()
    image = store.images / "sha256-nobodys"
    image.mkdir()
    (image / "rootfs.sqfs").write_bytes(OLD)
    debris(store)
    with store.lock():
        fill(small_file_system)
    assert free_bytes(small_file_system) == 0
    monkeypatch.setattr(tempfile, "mkdtemp", _full)
    monkeypatch.setattr(os, "mkdir", _full)
    report = await prune(store)
    assert report.removed == ("unfinished debian%3a12-dead", "image sha256-nobodys")
    assert free_bytes(small_file_system) == report.freed_bytes >= len(OLD) + 200_000
    assert os.listdir(store.images) == os.listdir(store.staging) == []


async def _with_an_image_that_nobody_needs(store: Store) -> Path:
    image = await replaced_while_in_use(store)
    image.close()
    return image.path.parent


async def test_without_room_for_another_name_an_image_goes_where_it_is(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = await _with_an_image_that_nobody_needs(store)
    monkeypatch.setattr(Path, "rename", _full)
    assert (await prune(store)).removed == (f"image {image.name}",)
    assert not image.exists()
    assert stores.inspect(store, "debian:12").installed


@pytest.mark.parametrize("room", [True, False])
async def test_whoever_is_killed_meanwhile_leaves_no_image(
    store: Store, monkeypatch: pytest.MonkeyPatch, room: bool
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    image = await _with_an_image_that_nobody_needs(store)
    digest = image.name.removeprefix("sha256-")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        if not room:
            patch.setattr(Path, "rename", _full)
        with pytest.raises(Killed):
            await prune(store)
    assert stores.manifest(store, digest) is None
    assert len((await prune(store)).removed) == 1
    assert os.listdir(store.staging) == []
    assert len(os.listdir(store.images)) == 1


async def test_what_is_set_aside_is_not_taken_for_left_behind(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that remove one folder at once would meet files that are gone."""
    await _with_an_image_that_nobody_needs(store)
    seen: list[PruneReport] = []
    really_remove = confine.remove_tree

    async def slow(folder: Path) -> None:
        seen.append(await prune(store, dry_run=True))
        await really_remove(folder)

    monkeypatch.setattr(pruning, "remove_tree", slow)
    await prune(store)
    assert seen == [PruneReport((), 0, dry_run=True)]


async def test_what_cannot_be_removed_is_told_after_the_rest_was(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    image = await _with_an_image_that_nobody_needs(store)
    left = debris(store)
    really_remove = confine.remove_tree

    async def refuse(folder: Path) -> None:
        if folder == left:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(left / "half"))
        await really_remove(folder)

    monkeypatch.setattr(pruning, "remove_tree", refuse)
    with pytest.raises(HostUnfit, match=f"{left / 'half'} cannot be written: Permission denied") as caught:
        await prune(store)
    assert caught.value.code == "cache_unwritable"
    assert f"; removed: image {image.name} (0.5 MiB)" in caught.value.message
    assert not image.exists()
