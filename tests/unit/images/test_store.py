import asyncio
import errno
import os
import subprocess
import threading
from pathlib import Path

import pytest

from pyro_mcp import digests
from pyro_mcp.errors import HostUnfit, NotFound, SourceFailed
from pyro_mcp.images import locks, uses
from pyro_mcp.images import store as stores
from pyro_mcp.images.pull import pull
from pyro_mcp.images.store import Store
from tests.support.descriptors import none_left
from tests.unit.images.fake_source import FakeSource


async def install(store: Store, name: str = "debian:12", content: bytes = b"an image") -> str:
    installed = await pull(store, name, FakeSource(content), lambda progress: None)
    assert installed.digest is not None
    return installed.digest


def image_file(store: Store, digest: str) -> Path:
    return store.image_folder(digest) / stores.IMAGE_FILE


def damage(file: Path, content: bytes) -> None:
    file.chmod(0o600)
    file.write_bytes(content)


async def test_the_list_shows_the_catalog_and_what_is_installed(store: Store) -> None:
    digest = await install(store)
    listed = {info.name: info for info in stores.list_environments(store)}
    assert set(listed) == {"debian:12", "debian:12-base", "debian:12-build"}
    assert [info.name for info in listed.values() if info.installed] == ["debian:12"]
    found = listed["debian:12"]
    assert (found.digest, found.source, found.contents) == (digest, "a fake mirror", ())
    assert found.size_bytes == stores.disk_usage(store.image_folder(digest))
    assert found.installed_at is not None
    assert "git" in found.packages


async def test_inspect_shows_what_is_inside(store: Store) -> None:
    await install(store)
    assert stores.inspect(store, "debian:12").contents == ("less 1.0", "patch 2.0")
    assert stores.inspect(store, "debian:12-base").installed is False
    with pytest.raises(NotFound):
        stores.inspect(store, "debian:11")


async def test_what_was_never_prepared_has_nothing_installed(tmp_path: Path) -> None:
    store = Store(tmp_path / "none")
    assert not any(info.installed for info in stores.list_environments(store))
    with pytest.raises(NotFound) as caught:
        await stores.open_verified(store, "debian:12")
    assert (caught.value.code, caught.value.hint) == ("environment_not_installed", "pyro env pull debian:12")
    assert os.listdir(tmp_path) == []


async def test_an_open_image_is_the_installed_one_and_locked(store: Store) -> None:
    digest = await install(store, content=b"0123456789")
    with await stores.open_verified(store, "debian:12") as image:
        assert (image.environment, image.digest, image.size_bytes) == ("debian:12", digest, 10)
        assert os.pread(image.fd, 100, 0) == b"0123456789"
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(image.fd, b"x")
        other = os.open(image_file(store, digest), os.O_RDONLY)
        assert not locks.try_lock(other)
    assert locks.try_lock(other)
    os.close(other)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (errno.EROFS, "cache_unwritable"),
        (errno.EACCES, "cache_unwritable"),
        (errno.ENOSPC, "no_disk_space"),
        (errno.EDQUOT, "no_disk_space"),
    ],
)
async def test_a_cache_that_cannot_be_written_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch, code: int, told: str
) -> None:
    await install(store)

    def refuse(path: Path) -> None:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(locks, "briefly", refuse)
    with pytest.raises(HostUnfit) as caught:
        await stores.open_verified(store, "debian:12")
    assert caught.value.code == told
    assert "full" in caught.value.message or os.strerror(code) in caught.value.message
    assert "PYRO_CACHE_DIR" in str(caught.value.hint)


async def test_an_unknown_name_is_not_opened(store: Store) -> None:
    with pytest.raises(NotFound) as caught:
        await stores.open_verified(store, "debian:12-bild")
    assert "debian:12-build" in str(caught.value.hint)


@pytest.mark.parametrize("content", [b"an imagE", b"an", b"", b"an image and more"])
async def test_a_damaged_image_is_found_before_use_and_the_next_pull_mends_it(store: Store, content: bytes) -> None:
    digest = await install(store)
    (await stores.open_verified(store, "debian:12")).close()
    damage(image_file(store, digest), content)
    with none_left(), pytest.raises(SourceFailed) as caught:
        await stores.open_verified(store, "debian:12")
    assert (caught.value.code, caught.value.hint) == ("image_corrupt", "install it again: pyro env pull debian:12")
    assert os.listdir(store.images) == os.listdir(store.staging) == []
    assert not stores.inspect(store, "debian:12").installed
    assert await install(store) == digest
    (await stores.open_verified(store, "debian:12")).close()


async def test_a_damaged_image_that_two_names_share_is_lost_for_both(store: Store) -> None:
    digest = await install(store)
    assert await install(store, "debian:12-base") == digest
    damage(image_file(store, digest), b"rubbish")
    with pytest.raises(SourceFailed):
        await stores.open_verified(store, "debian:12")
    assert not stores.inspect(store, "debian:12-base").installed
    with pytest.raises(NotFound):
        await stores.open_verified(store, "debian:12-base")


async def test_two_who_find_the_damage_at_once_both_hear_of_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(image_file(store, await install(store)), b"rubbish")
    both_look, really_matches = threading.Barrier(2, timeout=30), digests.matches

    def together(path: Path, digest: str, memory: Path) -> bool:
        both_look.wait()  # whoever comes when the other has removed it already finds none
        return really_matches(path, digest, memory)

    monkeypatch.setattr(digests, "matches", together)
    results = await asyncio.gather(
        *(stores.open_verified(store, "debian:12") for _ in range(2)), return_exceptions=True
    )
    assert [getattr(result, "code", None) for result in results] == ["image_corrupt"] * 2


async def test_a_new_image_survives_the_news_that_the_old_one_was_damaged(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await install(store)
    damage(image_file(store, old), b"rubbish")
    really_matches = digests.matches

    def slow(path: Path, digest: str, memory: Path) -> bool:
        found = really_matches(path, digest, memory)
        asyncio.run(install(store, content=b"a newer image"))
        monkeypatch.setattr(digests, "matches", really_matches)
        return found

    monkeypatch.setattr(digests, "matches", slow)
    with pytest.raises(SourceFailed):
        await stores.open_verified(store, "debian:12")
    with await stores.open_verified(store, "debian:12") as image:
        assert os.pread(image.fd, 100, 0) == b"a newer image"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": 1}', '{"name": "debian:12"}'])
async def test_a_reference_that_makes_no_sense_counts_as_not_installed(store: Store, content: str) -> None:
    await install(store)
    write(store.reference_file("debian:12"), content)
    assert not stores.inspect(store, "debian:12").installed
    with pytest.raises(NotFound):
        await stores.open_verified(store, "debian:12")
    await install(store)
    assert stores.inspect(store, "debian:12").installed


def write(file: Path, content: str) -> None:
    file.write_text(content)


async def test_an_image_without_its_file_is_not_installed_and_comes_back(store: Store) -> None:
    digest = await install(store)
    image_file(store, digest).unlink()
    assert not stores.inspect(store, "debian:12").installed
    with pytest.raises(NotFound):
        await stores.open_verified(store, "debian:12")
    assert await install(store) == digest
    (await stores.open_verified(store, "debian:12")).close()


def test_names_become_different_file_names() -> None:
    names = ("debian:12", "debian%3a12", "debian/12", "debian%2f12", "debian12")
    assert len({stores.file_name(name) for name in names}) == len(names)
    assert not any(set("/:") & set(stores.file_name(name)) for name in names)


def test_a_cache_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostUnfit) as caught:
        Store(tmp_path / "file" / "cache").prepare()
    assert caught.value.code == "cache_unwritable"
    assert "PYRO_CACHE_DIR" in str(caught.value.hint)


def _be_read_only(small: Path) -> None:
    holder = small.parts[2]  # of /proc/PID/root/...
    as_root = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
    folder = "/" + "/".join(small.parts[4:])
    subprocess.run(
        ["nsenter", "--target", holder, "--mount", *as_root, "mount", "-o", "remount,ro", folder], check=True
    )


def test_a_cache_that_is_mounted_read_only_is_told_as_that(small_file_system: Path) -> None:
    store = Store(small_file_system)
    store.prepare()
    _be_read_only(small_file_system)
    with pytest.raises(HostUnfit, match=os.strerror(errno.EROFS)) as caught:
        store.prepare()
    assert caught.value.code == "cache_unwritable"
    assert str(store.images) in caught.value.message


def test_a_cache_folder_that_others_own_is_told_with_its_path(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, _mode: path != store.staging)
    with pytest.raises(HostUnfit, match=os.strerror(errno.EACCES)) as caught:
        store.prepare()
    assert str(store.staging) in caught.value.message


def test_a_cache_without_room_for_its_folders_is_told_as_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(HostUnfit) as caught:
        Store(tmp_path / "cache").prepare()
    assert caught.value.code == "no_disk_space"


def test_disk_usage_counts_blocks_not_lengths(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "data").write_bytes(os.urandom(100_000))
    assert 100_000 <= stores.disk_usage(tmp_path) < 200_000
    assert stores.disk_usage(tmp_path / "missing") == 0


async def test_an_image_can_be_opened_by_its_digest_when_its_name_means_another(store: Store) -> None:
    old = await install(store)
    uses.keep(store, old, store.cache_dir)
    await install(store, content=b"newer")
    with await stores.open_digest(store, "debian:12", old) as image:
        assert (image.environment, image.digest, os.pread(image.fd, 100, 0)) == ("debian:12", old, b"an image")
        fd = os.open(image.path, os.O_RDONLY)
        assert not locks.try_lock(fd)
        os.close(fd)


async def test_an_image_that_is_gone_or_damaged_is_not_opened_by_its_digest(store: Store) -> None:
    digest = await install(store)
    with pytest.raises(NotFound) as gone:
        await stores.open_digest(store, "debian:12", "0" * 64)
    assert gone.value.code == "image_gone"
    damage(image_file(store, digest), b"rubbish!")
    with none_left(), pytest.raises(SourceFailed) as damaged:
        await stores.open_digest(store, "debian:12", digest)
    assert damaged.value.code == "image_corrupt"
    assert image_file(store, digest).exists()
    with pytest.raises(NotFound):
        await stores.open_digest(Store(store.cache_dir / "nowhere"), "debian:12", digest)
