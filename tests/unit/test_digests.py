"""A digest is remembered for as long as the file has not been written."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from pyro_mcp import digests
from pyro_mcp.digests import FileStamp, matches, sha256_of


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(b"content of an image")
    return path


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "verified.json"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one whenever a file is really hashed."""
    calls: list[str] = []
    real = hashlib.file_digest

    def counting(*arguments: object) -> object:
        calls.append("hashed")
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(hashlib, "file_digest", counting)
    return calls


def test_the_digest_is_that_of_the_content(image: Path) -> None:
    assert sha256_of(image) == hashlib.sha256(b"content of an image").hexdigest()


def test_a_match_is_hashed_once(image: Path, memory: Path, hashed: list[str]) -> None:
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    assert matches(image, digest, memory)
    assert matches(image, digest, memory)
    assert len(hashed) == 1


def test_another_digest_is_never_remembered(image: Path, memory: Path, hashed: list[str]) -> None:
    assert not matches(image, "0" * 64, memory)
    assert not memory.exists()
    assert matches(image, sha256_of(image), memory)
    assert not matches(image, "0" * 64, memory)
    assert len(hashed) == 4  # sha256_of included


def test_a_changed_file_is_found_although_size_and_mtime_are_put_back(image: Path, memory: Path) -> None:
    digest = sha256_of(image)
    assert matches(image, digest, memory)
    before = image.stat()
    while image.stat().st_ctime_ns == before.st_ctime_ns:  # the kernel's clock for ctime moves in ticks
        image.write_bytes(b"CONTENT of an image")
        os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = image.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    assert not matches(image, digest, memory)


def test_a_file_put_in_place_of_another_is_hashed(image: Path, memory: Path) -> None:
    digest = sha256_of(image)
    assert matches(image, digest, memory)
    other = image.with_name("other")
    other.write_bytes(b"CONTENT of an image")
    other.replace(image)
    assert not matches(image, digest, memory)


@pytest.mark.parametrize(
    "rubbish",
    [
        b"",
        b"not json",
        b"[]",
        b"null",
        b"{}",
        b'{"digest": 1}',
        b'{"digest": "x", "stamp": 5}',
        b'{"digest": "x", "stamp": {"device": 1}}',
        b"\xff\xfe\x00",
    ],
)
def test_a_memory_that_makes_no_sense_costs_a_hash(
    image: Path, memory: Path, rubbish: bytes, hashed: list[str]
) -> None:
    memory.write_bytes(rubbish)
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    assert matches(image, digest, memory)
    assert matches(image, digest, memory)
    assert len(hashed) == 1


def test_a_memory_of_another_digest_does_not_vouch_for_this_one(image: Path, memory: Path) -> None:
    with image.open("rb") as file:
        stamp = FileStamp.of(file.fileno())
    memory.write_text(json.dumps({"digest": "0" * 64, "stamp": vars(stamp)}))
    assert matches(image, sha256_of(image), memory)


def test_where_nothing_can_be_remembered_the_answer_is_the_same(image: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "no-such-folder" / "verified.json"
    assert matches(image, sha256_of(image), nowhere)
    assert not nowhere.parent.exists()


def test_remembering_leaves_nothing_but_the_memory(image: Path, memory: Path, tmp_path: Path) -> None:
    assert matches(image, sha256_of(image), memory)
    assert {path.name for path in tmp_path.iterdir()} == {"image", "verified.json"}


def test_a_file_that_changes_while_it_is_hashed_is_not_remembered(
    image: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamps = iter([FileStamp(1, 1, 1, 1, 1), FileStamp(1, 1, 1, 2, 2)])
    monkeypatch.setattr(digests.FileStamp, "of", lambda _fd: next(stamps))
    assert matches(image, sha256_of(image), memory)
    assert not memory.exists()


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path, memory: Path) -> None:
    with pytest.raises(FileNotFoundError):
        matches(tmp_path / "missing", "0" * 64, memory)
