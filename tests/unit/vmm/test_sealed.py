"""What machines begin from cannot be changed by them, whatever they do."""

import fcntl
import mmap
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pyro_mcp import sparse
from pyro_mcp.vmm import sealed
from pyro_mcp.vmm.sealed import SealedCopies
from tests.support.descriptors import none_left, opened

CONTENT = b"memory" * 2000


@pytest.fixture
def copies() -> Iterator[SealedCopies]:
    """They hold no descriptor once they have forgotten what they had."""
    with none_left():
        made = SealedCopies()
        yield made
        made.forget()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "memory"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture(params=["as it is", "reopened for writing"])
def copy(request: pytest.FixtureRequest, file: Path, copies: SealedCopies) -> Iterator[int]:
    """The descriptor of one, as a VMM gets it or as a VMM could make it."""
    fd = copies.of(file)
    if request.param == "reopened for writing":
        given, fd = fd, os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
        os.close(given)
    yield fd
    os.close(fd)


def _number(fd: int) -> int:
    """Equal for descriptors of one copy."""
    return os.fstat(fd).st_ino


def _one(copies: SealedCopies, path: Path) -> int:
    fd = copies.of(path)
    try:
        return _number(fd)
    finally:
        os.close(fd)


def _kept() -> int:
    """How many descriptors of files in memory this process has."""
    return sum(name.startswith("/memfd:file-") for name in opened().values())


def test_it_is_equal(copy: int) -> None:
    assert os.pread(copy, len(CONTENT) + 1, 0) == CONTENT


def test_it_cannot_be_written(copy: int) -> None:
    with pytest.raises(PermissionError):
        os.pwrite(copy, b"mine", 0)
    assert os.pread(copy, len(CONTENT), 0) == CONTENT


@pytest.mark.parametrize("size", [0, 1, len(CONTENT) + 1, 1 << 30])
def test_it_cannot_be_resized(copy: int, size: int) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(copy, size)


def test_it_cannot_be_emptied_by_opening_it(copy: int) -> None:
    with pytest.raises(PermissionError):
        os.open(f"/proc/self/fd/{copy}", os.O_RDWR | os.O_TRUNC)
    assert os.fstat(copy).st_size == len(CONTENT)


def test_it_cannot_be_mapped_so_that_others_see_what_is_written(copy: int) -> None:
    with pytest.raises(PermissionError):
        mmap.mmap(copy, len(CONTENT), mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)


def test_its_seals_cannot_be_changed(copy: int) -> None:
    with pytest.raises(PermissionError):
        fcntl.fcntl(copy, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL)


def test_it_can_be_mapped_and_what_is_written_there_stays_ones_own(copy: int) -> None:
    with mmap.mmap(copy, len(CONTENT), mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
        mapped[:4] = b"mine"
        assert mapped[:6] == b"minery"
    assert os.pread(copy, 6, 0) == b"memory"


def test_holes_stay_holes(tmp_path: Path, copies: SealedCopies) -> None:
    file = tmp_path / "memory"
    file.touch()
    os.truncate(file, 1 << 30)
    fd = copies.of(file)
    about = os.fstat(fd)
    os.close(fd)
    assert (about.st_size, about.st_blocks) == (1 << 30, 0)


def test_what_somebody_has_mapped_for_writing_is_not_sealed() -> None:
    fd = sealed.new("memory")
    os.ftruncate(fd, 4096)
    with mmap.mmap(fd, 4096), pytest.raises(OSError, match="busy"):
        sealed.seal(fd)
    sealed.seal(fd)
    os.close(fd)


def test_what_is_opened_again_has_a_position_of_its_own(copy: int) -> None:
    again = sealed.opened_again(copy)
    try:
        os.lseek(copy, 3, os.SEEK_SET)
        assert os.read(again, 6) == b"memory"
        assert os.read(copy, 3) == b"ory"
        assert not os.get_inheritable(again)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(again, b"mine")
    finally:
        os.close(again)


def test_a_file_is_copied_once(file: Path, copies: SealedCopies) -> None:
    first, second = copies.of(file), copies.of(file)
    assert first != second, "each is the caller's to close"
    assert _number(first) == _number(second)
    assert not os.get_inheritable(first)
    os.close(first)
    os.close(second)


def test_a_file_is_copied_once_when_many_want_it(file: Path, copies: SealedCopies) -> None:
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(lambda _: _one(copies, file), range(32)))) == 1


def test_a_file_that_took_its_place_is_another(file: Path, copies: SealedCopies) -> None:
    before = copies.of(file)
    new = file.with_name("new")
    new.write_bytes(b"another")
    new.rename(file)
    after = copies.of(file)
    assert os.pread(before, 100, 0) == CONTENT[:100]
    assert os.pread(after, 100, 0) == b"another"
    os.close(before)
    os.close(after)


def test_the_last_few_are_kept_and_those_used_last_longest(tmp_path: Path, copies: SealedCopies) -> None:
    files = [tmp_path / f"file-{number}" for number in range(5)]
    for file in files:
        file.touch()
    numbers = [_one(copies, file) for file in files[:4]]
    assert [_one(copies, file) for file in files[:4]] == numbers
    _one(copies, files[0])
    _one(copies, files[4])
    assert _kept() == 4
    assert _one(copies, files[0]) == numbers[0]
    assert _one(copies, files[1]) not in numbers
    assert _kept() == 4


def test_who_has_one_keeps_it_when_it_is_forgotten(file: Path, copies: SealedCopies) -> None:
    fd = copies.of(file)
    copies.forget()
    assert os.pread(fd, 6, 0) == b"memory"
    assert _one(copies, file) != _number(fd)
    os.close(fd)


def test_a_file_that_is_not_there_is_told(tmp_path: Path, copies: SealedCopies) -> None:
    with pytest.raises(FileNotFoundError):
        copies.of(tmp_path / "none")


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, copies: SealedCopies) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "link"):
        with pytest.raises(OSError, match=r"no regular file|symbolic links"):
            copies.of(path)


def test_a_copy_that_cannot_be_made_leaves_nothing_and_is_tried_again(
    file: Path, copies: SealedCopies, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no memory")

    with none_left(), monkeypatch.context() as patch:
        patch.setattr(sparse, "copy", fail)
        with pytest.raises(OSError, match="no memory"):
            copies.of(file)
    fd = copies.of(file)
    assert os.pread(fd, 6, 0) == b"memory"
    os.close(fd)
