import errno
import os
import tempfile
from pathlib import Path

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.doctor import disk
from pyro_mcp.doctor.disk import Finding, Place
from pyro_mcp.doctor.report import Status

GIB = 1 << 30
CACHE = Place(Path("/big/cache"), "PYRO_CACHE_DIR", 3 * GIB)
HOME = Place(Path("/small/home"), "PYRO_HOME", 16 << 20)
NEED = "a pull takes some"


async def test_this_machine_has_room_and_nothing_is_made(settings: Settings, tmp_path: Path) -> None:
    row = await disk.examine(settings)
    assert row.status is Status.PASS, row
    assert str(settings.cache_dir) in row.found
    assert "debian:12" in row.found
    assert os.listdir(tmp_path) == []


def test_what_is_free_and_what_is_needed_is_told() -> None:
    row = disk.row_for([Finding(CACHE, 10 * GIB, None), Finding(HOME, 20 << 20, None)], NEED)
    assert row.status is Status.PASS
    assert row.found == f"10.0 GiB free in /big/cache and 20 MiB free in /small/home; {NEED}"


@pytest.mark.parametrize(("free", "status"), [(2 * GIB, Status.WARN), (0, Status.FAIL)])
def test_too_little_room(free: int, status: Status) -> None:
    row = disk.row_for([Finding(CACHE, free, None), Finding(HOME, GIB, None)], NEED)
    assert row.status is status
    assert row.found.startswith("/big/cache has little room")
    assert "PYRO_CACHE_DIR" in (row.mend or "")


def test_a_folder_that_cannot_be_written() -> None:
    row = disk.row_for([Finding(CACHE, 9 * GIB, None), Finding(HOME, 9 * GIB, "it cannot be written")], NEED)
    assert row.status is Status.FAIL
    assert row.found == "it cannot be written"
    assert "chown" in (row.mend or "")
    assert "PYRO_HOME" in (row.mend or "")


def test_a_folder_to_be_made_is_judged_by_where_it_will_be(tmp_path: Path) -> None:
    finding = disk.look_at(Place(tmp_path / "a" / "b", "X", 1))
    assert finding.unwritable is None
    assert finding.free_bytes > 0
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_no_folder_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    finding = disk.look_at(Place(tmp_path / "file" / "below", "X", 1))
    assert str(tmp_path / "file") in (finding.unwritable or "")


def test_a_full_disk_has_no_room_but_no_bad_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    assert disk.look_at(Place(tmp_path, "X", 1)) == Finding(Place(tmp_path, "X", 1), 0, None)
