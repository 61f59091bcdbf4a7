"""The row of the workspaces that are written down; looking leaves everything as it is."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.doctor import state
from pyro_mcp.doctor.report import Row, Status
from pyro_mcp.errors import HostUnfit
from pyro_mcp.workspace.record import DELETED, PURGED, STOPPED, WorkspaceRecord
from pyro_mcp.workspace.records import FILE_NAME, Records


@pytest.fixture
def home(settings: Settings) -> Path:
    settings.home.mkdir(parents=True)
    return settings.home


@pytest.fixture
def records(home: Path) -> Iterator[Records]:
    with closing(Records(home)) as made:
        yield made


def _add(records: Records, *states: str) -> None:
    for number, its_state in enumerate(states):
        name = f"w-{number}"
        records.add(WorkspaceRecord(name, "debian:12", "d", 1, 512, "off", "t", "qemu", "disk-1.ext4", its_state))


def _content(home: Path) -> dict[str, tuple[bytes, int]]:
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in home.iterdir()}


async def _row(settings: Settings) -> Row:
    """The row, which must not have changed anything."""
    before = _content(settings.home) if settings.home.is_dir() else None
    row = await state.examine(settings)
    assert (_content(settings.home) if settings.home.is_dir() else None) == before
    assert row.name == "workspaces"
    return row


def _why_unusable(home: Path) -> HostUnfit:
    """What the commands say."""
    with pytest.raises(HostUnfit) as caught:
        Records(home)
    return caught.value


async def test_none_is_made_where_there_is_none(settings: Settings) -> None:
    row = await _row(settings)
    assert (row.status, row.found) == (Status.PASS, "none is written down yet")
    settings.home.mkdir(parents=True)
    assert await _row(settings) == row
    (settings.home / FILE_NAME).touch()
    assert await _row(settings) == row


@pytest.mark.parametrize(
    ("states", "found"),
    [
        ((STOPPED, PURGED), "1 is written down"),
        ((STOPPED, STOPPED, DELETED), "2 are written down, and 1 deleted that can be had back"),
        ((DELETED,), "none is written down, and 1 deleted that can be had back"),
    ],
)
async def test_they_are_counted_while_a_daemon_writes(
    settings: Settings, records: Records, states: tuple[str, ...], found: str
) -> None:
    _add(records, *states)
    with closing(sqlite3.connect(settings.home / FILE_NAME, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM workspaces")
        row = await _row(settings)
        writer.execute("ROLLBACK")
    assert (row.status, row.found) == (Status.PASS, found)


async def test_they_are_counted_when_no_daemon_runs(settings: Settings, home: Path) -> None:
    with closing(Records(home)) as records:
        _add(records, STOPPED)
    assert list(_content(home)) == [FILE_NAME]
    assert (await _row(settings)).found == "1 is written down"


async def test_a_damaged_file_fails_with_the_mend_that_commands_tell(settings: Settings, home: Path) -> None:
    (home / FILE_NAME).write_bytes(b"rubbish" * 1000)
    error = _why_unusable(home)
    row = await _row(settings)
    assert error.code == "state_corrupt"
    assert (row.status, row.found, row.mend) == (Status.FAIL, error.message, error.hint)


async def test_one_that_a_newer_pyro_wrote_fails_with_the_mend_that_commands_tell(
    settings: Settings, home: Path
) -> None:
    Records(home).close()
    with closing(sqlite3.connect(home / FILE_NAME)) as newer:
        newer.execute("PRAGMA user_version = 99")
    error = _why_unusable(home)
    row = await _row(settings)
    assert error.code == "state_newer"
    assert (row.status, row.found, row.mend) == (Status.FAIL, error.message, error.hint)


async def test_a_copy_that_was_taken_in_the_middle_of_a_change_is_taken_again(
    settings: Settings, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    _add(records, STOPPED)
    copy_file, torn = shutil.copyfile, list[Path]()

    def tear_the_first(source: Path, to: Path) -> None:
        copy_file(source, to)
        if to.name == FILE_NAME and not torn:
            torn.append(to)
            to.write_bytes(b"rubbish" * 1000)

    monkeypatch.setattr(shutil, "copyfile", tear_the_first)
    assert (await _row(settings)).found == "1 is written down"
    assert torn


async def test_something_else_in_its_place(settings: Settings, home: Path) -> None:
    (home / FILE_NAME).mkdir()
    row = await state.examine(settings)
    assert row.status is Status.FAIL
    assert "cannot be read" in row.found
    assert "move it away" in str(row.mend)


async def test_a_database_of_others_in_its_place(settings: Settings, home: Path) -> None:
    with closing(sqlite3.connect(home / FILE_NAME)) as other:
        other.execute("PRAGMA user_version = 1")
        other.execute("CREATE TABLE others (name TEXT)")
    row = await _row(settings)
    assert row.status is Status.FAIL
    assert str(home / FILE_NAME) in row.found
    assert "pyro doctor" not in str(row.mend)
