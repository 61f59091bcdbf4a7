"""A copy is equal to what it was copied from, and has its holes."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_mcp import sparse
from tests.support.small_disk import small_disk

MIB = 1 << 20
_PAGE = 4096


def _file(*parts: bytes | int) -> int:
    """A file in memory of data and, where there is a number, a hole of so many bytes."""
    fd = os.memfd_create("file")
    at = 0
    for part in parts:
        if isinstance(part, bytes):
            os.pwrite(fd, part, at)
        at += len(part) if isinstance(part, bytes) else part
    os.ftruncate(fd, at)
    return fd


def _copied(source: int) -> tuple[bytes, int]:
    """What a copy contains, and the bytes that it takes."""
    target = os.memfd_create("copy")
    try:
        sparse.copy(source, target)
        about = os.fstat(target)
        return os.pread(target, about.st_size + 1, 0), about.st_blocks * 512
    finally:
        os.close(target)
        os.close(source)


def test_holes_stay_holes() -> None:
    content, taken = _copied(_file(8 * MIB, b"a" * _PAGE, 8 * MIB, b"b" * _PAGE, 8 * MIB))
    assert len(content) == 24 * MIB + 2 * _PAGE
    assert content.strip(b"\0") == b"a" * _PAGE + bytes(8 * MIB) + b"b" * _PAGE
    assert taken <= 4 * _PAGE


@pytest.mark.parametrize("size", [0, 1, 64 * MIB])
def test_a_file_that_is_empty_or_one_hole(size: int) -> None:
    content, taken = _copied(_file(size))
    assert content == bytes(size)
    assert taken == 0


def test_a_file_without_holes() -> None:
    data = os.urandom(3 * MIB + 5)
    assert _copied(_file(data))[0] == data


@given(st.lists(st.binary(min_size=1, max_size=9000) | st.integers(0, 40000), max_size=8))
def test_whatever_is_where(parts: list[bytes | int]) -> None:
    expected = b"".join(part if isinstance(part, bytes) else bytes(part) for part in parts)
    assert _copied(_file(*parts))[0] == expected


def test_the_position_of_the_source_does_not_matter() -> None:
    source = _file(b"from the beginning")
    os.lseek(source, 0, os.SEEK_END)
    assert _copied(source)[0] == b"from the beginning"


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    source = _file(b"x" * (2 * MIB))
    with (
        small_disk(tmp_path / "small", 1) as small,
        (small / "copy").open("xb") as target,
        pytest.raises(OSError, match="No space left") as caught,
    ):
        sparse.copy(source, target.fileno())
    os.close(source)
    assert caught.value.errno == errno.ENOSPC


def test_a_file_that_shrinks_meanwhile_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    source = _file(b"x" * MIB)
    really_send = os.sendfile

    def send(target: int, copied: int, start: int, count: int) -> int:
        os.ftruncate(copied, _PAGE)
        return really_send(target, copied, start, count)

    monkeypatch.setattr(os, "sendfile", send)
    with pytest.raises(OSError, match="ended early"):
        _copied(source)
