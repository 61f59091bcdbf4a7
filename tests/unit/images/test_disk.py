import asyncio
import errno
import os
import re
import subprocess
from pathlib import Path

import pytest

from pyro_mcp.errors import HostUnfit, InvalidRequest
from pyro_mcp.images import confine, disk
from tests.support.descriptors import none_left
from tests.unit.images.conftest import MIB

_NAME = f"blank-{disk._GENERATION}-16.ext4"


def content(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def output_about(fd: int, *command: str) -> str:
    """What a program that must succeed says about the disk."""
    argv = [*command, f"/proc/self/fd/{fd}"]
    return subprocess.run(argv, pass_fds=[fd], check=True, capture_output=True, text=True).stdout


async def test_a_blank_disk_is_a_whole_file_system_with_a_journal(tmp_path: Path) -> None:
    fd = await disk.open_blank(tmp_path, 64 * MIB)
    try:
        assert os.fstat(fd).st_size == 64 * MIB
        assert os.fstat(fd).st_blocks * 512 < 8 * MIB
        output_about(fd, "e2fsck", "-fn")
        assert "has_journal" in output_about(fd, "dumpe2fs", "-h")
    finally:
        os.close(fd)


@pytest.mark.parametrize("journal", [True, False])
async def test_a_blank_disk_has_folders_of_roots_own_and_little_else(tmp_path: Path, journal: bool) -> None:
    fd = await disk.open_blank(tmp_path, 8192 * MIB, journal=journal)
    try:
        assert os.fstat(fd).st_blocks * 512 < MIB
        for folder in disk.FOLDERS:
            found = output_about(fd, "debugfs", "-R", f"stat {folder}")
            assert re.search(r"Type: directory +Mode: +0755 ", found), folder
            assert re.search(r"User: +0 +Group: +0 ", found), folder
        output_about(fd, "e2fsck", "-fn")
    finally:
        os.close(fd)


async def test_a_blank_disk_without_a_journal_is_another_one(tmp_path: Path) -> None:
    fd = await disk.open_blank(tmp_path, 64 * MIB, journal=False)
    other = await disk.open_blank(tmp_path, 64 * MIB)
    try:
        output_about(fd, "e2fsck", "-fn")
        assert "has_journal" not in output_about(fd, "dumpe2fs", "-h")
        assert "has_journal" in output_about(other, "dumpe2fs", "-h")
    finally:
        os.close(fd)
        os.close(other)


async def test_a_blank_disk_is_made_once_when_many_want_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, really_run = list[str](), confine.run

    async def counted(confinement: confine.Confinement, argv: list[str], *, env: dict[str, str]) -> confine.Ended:
        runs.append(argv[0])
        return await really_run(confinement, argv, env=env)

    monkeypatch.setattr(confine, "run", counted)
    fds = await asyncio.gather(*(disk.open_blank(tmp_path, 16 * MIB) for _ in range(5)))
    assert runs == ["mkfs.ext4", "debugfs"]
    assert len({os.fstat(fd).st_ino for fd in fds}) == 1
    for fd in fds:
        os.close(fd)
    assert {file.name for file in (tmp_path / "disks").iterdir()} == {_NAME, "blank.lock"}


@pytest.mark.parametrize("left", [0, MIB, 17 * MIB])
async def test_a_blank_disk_of_another_size_is_made_anew(tmp_path: Path, left: int) -> None:
    os.close(await disk.open_blank(tmp_path, 16 * MIB))
    path = tmp_path / "disks" / _NAME
    path.chmod(0o600)
    os.truncate(path, left)
    fd = await disk.open_blank(tmp_path, 16 * MIB)
    try:
        assert os.fstat(fd).st_size == 16 * MIB
        output_about(fd, "e2fsck", "-fn")
    finally:
        os.close(fd)


@pytest.mark.parametrize("size", [0, -MIB, 15 * MIB, 16 * MIB + 1])
async def test_sizes_that_cannot_be_are_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await disk.open_blank(tmp_path, size)
    assert caught.value.code == "bad_disk_size"
    assert os.listdir(tmp_path) == []


async def test_a_clone_is_equal_sparse_nameless_and_independent(tmp_path: Path) -> None:
    blank = await disk.open_blank(tmp_path, 64 * MIB)
    clone = await disk.clone(blank, tmp_path)
    try:
        assert content(clone) == content(blank)
        assert os.fstat(clone).st_blocks <= os.fstat(blank).st_blocks + 64
        assert os.listdir(tmp_path) == ["disks"]
        os.pwrite(clone, b"mine", 4096)
        assert os.pread(blank, 4, 4096) != b"mine"
        again = os.open(f"/proc/self/fd/{clone}", os.O_RDWR)
        assert os.pread(again, 4, 4096) == b"mine"
        os.close(again)
    finally:
        os.close(blank)
        os.close(clone)


async def test_a_clone_may_lie_on_another_file_system(tmp_path: Path, small_file_system: Path) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.write(b"head")
        file.seek(8 * MIB)
        file.write(b"tail")
        file.truncate(16 * MIB)
    blank = os.open(source, os.O_RDONLY)
    clone = await disk.clone(blank, small_file_system)
    try:
        assert content(clone) == source.read_bytes()
        assert os.fstat(clone).st_blocks * 512 < MIB
    finally:
        os.close(blank)
        os.close(clone)


async def test_a_full_disk_is_an_error_with_a_hint_and_leaves_nothing(tmp_path: Path, small_file_system: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 4 * MIB)
    blank = os.open(source, os.O_RDONLY)
    try:
        with none_left(), pytest.raises(HostUnfit) as caught:
            await disk.clone(blank, small_file_system)
    finally:
        os.close(blank)
    assert caught.value.code == "no_disk_space"
    assert "pyro env prune" in str(caught.value.hint)
    assert "PYRO_CACHE_DIR" in str(caught.value.hint)
    assert os.statvfs(small_file_system).f_bavail * os.statvfs(small_file_system).f_frsize == 2 * MIB


async def test_a_blank_disk_on_a_full_file_system_leaves_nothing(small_file_system: Path) -> None:
    (small_file_system / "filler").write_bytes(b"x" * (2 * MIB - 16384))
    with pytest.raises(HostUnfit) as caught:
        await disk.open_blank(small_file_system, 256 * MIB)
    assert caught.value.code == "no_disk_space"
    assert [file.name for file in (small_file_system / "disks").iterdir()] == ["blank.lock"]


async def test_without_mkfs_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confine, "environment", lambda: {"PATH": str(tmp_path)})
    with pytest.raises(HostUnfit) as caught:
        await disk.open_blank(tmp_path, 16 * MIB)
    assert (caught.value.code, caught.value.hint) == ("missing_program", "sudo apt-get install e2fsprogs")


async def test_a_named_copy_is_its_owners_and_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    blank = await disk.open_blank(tmp_path, 16 * MIB)
    path = tmp_path / "disk-1.ext4"
    path.write_text("left by something that was killed")
    await disk.clone_to(blank, path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_blocks * 512 < 8 * MIB
    with path.open("rb") as copy:
        assert content(copy.fileno()) == content(blank)
    os.close(blank)


async def test_a_named_copy_that_does_not_fit_is_not_there(small_file_system: Path, tmp_path: Path) -> None:
    blank = os.memfd_create("blank")
    os.write(blank, os.urandom(4 * MIB))
    with pytest.raises(HostUnfit) as caught:
        await disk.clone_to(blank, small_file_system / "disk-1.ext4")
    assert caught.value.code == "no_disk_space"
    assert "pyro workspace prune" in str(caught.value.hint)
    assert "PYRO_HOME" in str(caught.value.hint)
    assert os.listdir(small_file_system) == []
    os.close(blank)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EIO])
async def test_a_disk_that_cannot_be_written_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(_blank: int, _target: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(disk, "_fill", fail)
    blank = os.memfd_create("blank")
    for attempt in (disk.clone(blank, tmp_path), disk.clone_to(blank, tmp_path / "disk-1.ext4")):
        with pytest.raises(HostUnfit) as caught:
            await attempt
        assert caught.value.code == "disk_failed"
        assert os.strerror(code) in caught.value.message
        assert caught.value.hint
    assert os.listdir(tmp_path) == []
    os.close(blank)


@pytest.mark.parametrize(("code", "limit"), [(errno.EFBIG, "`ulimit -f`"), (errno.EMFILE, "`ulimit -n`")])
async def test_a_limit_of_the_daemons_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, limit: str
) -> None:
    def fail(_blank: int, _target: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(disk, "_fill", fail)
    blank = os.memfd_create("blank")
    with pytest.raises(HostUnfit) as caught:
        await disk.clone(blank, tmp_path)
    os.close(blank)
    assert limit in str(caught.value.hint)
    assert "writable" not in str(caught.value.hint)


async def test_a_cache_that_cannot_be_used_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "disks").write_text("no folder")
    with pytest.raises(HostUnfit) as caught:
        await disk.open_blank(tmp_path, 16 * MIB)
    assert caught.value.code == "disk_failed"
    assert str(tmp_path) in caught.value.message
