"""What is on the seed's device of a machine that has no seed."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pyro_mcp.errors import HostUnfit
from pyro_mcp.images import no_seed


def test_it_is_larger_than_any_seed_and_takes_no_space(tmp_path: Path) -> None:
    about = no_seed.path(tmp_path).stat()
    assert about.st_size == 256 << 30
    assert about.st_blocks == 0
    assert about.st_mode & 0o777 == 0o444


def test_it_is_no_file_system(tmp_path: Path) -> None:
    with no_seed.path(tmp_path).open("rb") as file:
        assert file.read(4096) == bytes(4096)


def test_it_is_made_once(tmp_path: Path) -> None:
    first = no_seed.path(tmp_path).stat()
    assert no_seed.path(tmp_path).stat() == first


def test_the_cache_is_made_if_need_be(tmp_path: Path) -> None:
    assert no_seed.path(tmp_path / "not" / "there").exists()


def test_when_many_want_it_at_once_each_has_a_whole_one_and_nothing_else_is_left(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        sizes = list(threads.map(lambda _: no_seed.path(tmp_path).stat().st_size, range(32)))
    assert set(sizes) == {256 << 30}
    assert os.listdir(tmp_path) == ["no-seed"]


def test_a_making_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("File too large")

    monkeypatch.setattr(os, "ftruncate", refuse)
    with pytest.raises(HostUnfit, match="too large"):
        no_seed.path(tmp_path)
    assert os.listdir(tmp_path) == []
