"""What is written down of commands: the newest of each workspace."""

import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pyro_mcp.errors import HostUnfit, NotFound
from pyro_mcp.workspace import history
from pyro_mcp.workspace.database import Database, set_aside
from pyro_mcp.workspace.history import FILE_NAME, History
from pyro_mcp.workspace.record import WorkspaceRecord
from pyro_mcp.workspace.records import Records
from pyro_mcp.workspace_models import ExecInfo


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    made = Records(tmp_path)
    for name in ("w-1", "w-2"):
        made.add(WorkspaceRecord(name, "debian:12", "d", 1, 512, "off", "t", "qemu", "disk-1.ext4"))
    yield made
    made.close()


@pytest.fixture
def written(tmp_path: Path) -> Iterator[History]:
    made = History(tmp_path)
    yield made
    made.close()


def started(exec_id: str, workspace_id: str = "w-1") -> ExecInfo:
    return ExecInfo(exec_id, workspace_id, ("echo", "grün"), "running", "2026-01-01T00:00:00+00:00")


def test_a_command_is_found_as_it_was_written(written: History) -> None:
    written.add_exec(started("x-1"))
    assert written.exec("w-1", "x-1") == started("x-1")
    assert written.execs("w-1", running=True) == (started("x-1"),)
    ended = replace(started("x-1"), status="exited", exit_code=3, duration_ms=20, output_bytes=5)
    written.update_exec(ended)
    assert written.exec("w-1", "x-1") == ended
    assert written.execs("w-1", running=True) == ()
    with pytest.raises(NotFound) as caught:
        written.exec("w-2", "x-1")
    assert caught.value.code == "unknown_command"
    with pytest.raises(ValueError, match="has a command"):
        written.add_exec(started("x-1"))
    written.add_exec(started("x-1", "w-2"))
    assert written.counts() == {"w-1": (1, 0), "w-2": (1, 1)}
    assert written.counts("w-2") == {"w-2": (1, 1)}


def test_what_ran_is_lost_with_its_machine(written: History) -> None:
    written.add_exec(started("x-1"))
    written.add_exec(replace(started("x-2"), status="exited"))
    written.add_exec(started("x-1", "w-2"))
    written.lost("w-1")
    assert [info.status for info in written.execs("w-1")] == ["lost", "exited"]
    assert written.exec("w-2", "x-1").status == "running"


def test_the_newest_are_kept_and_those_that_run(written: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "KEPT_COMMANDS", 10)
    monkeypatch.setattr(history, "_SLACK", 4)
    written.add_exec(started("x-long"))
    for number in range(40):
        written.add_exec(replace(started(f"x-{number}"), status="exited"))
    ids = [info.exec_id for info in written.execs("w-1")]
    assert ids == [f"x-{number}" for number in range(30, 40)]
    assert written.counts()["w-1"] == (10, 1)
    assert [info.exec_id for info in written.execs("w-1", running=True)] == ["x-long"]
    with pytest.raises(NotFound):
        written.exec("w-1", "x-5")


def test_what_was_written_is_there_after_a_checkpoint_and_for_the_next(written: History, tmp_path: Path) -> None:
    written.add_exec(started("x-1"))
    written.checkpoint()
    other = History(tmp_path)
    assert other.exec("w-1", "x-1") == started("x-1")
    other.close()


def test_the_commands_of_a_removed_workspace_are_forgotten(written: History, records: Records) -> None:
    records.when_removed(written.forget)
    written.add_exec(started("x-1"))
    written.add_exec(started("x-1", "w-2"))
    written.add_exec(started("x-1", "w-3"))
    assert records.purge("w-1")
    records.remove("w-1")
    assert written.execs("w-1") == ()
    written.update_exec(started("x-1"))
    assert written.execs("w-1") == ()
    written.forget_others({record.workspace_id for record in records.all()})
    assert written.counts() == {"w-2": (1, 1)}


def test_nobody_waits_for_who_writes_down_workspaces_or_makes_a_checkpoint(written: History, records: Records) -> None:
    with records._database.transaction():
        written.add_exec(started("x-1"))
        written.update_exec(replace(started("x-1"), status="exited"))
    with written._database.transaction():
        made = threading.Thread(target=written.checkpoint, daemon=True)
        made.start()
        made.join(60)
        assert not made.is_alive()
    assert written.exec("w-1", "x-1").status == "exited"


def test_a_file_that_turns_out_to_be_damaged_is_set_aside(
    written: History, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written.add_exec(started("x-1"))
    written.close()
    path = tmp_path / FILE_NAME
    page = 4096
    damaged = path.read_bytes()[:page] + b"\xff" * (path.stat().st_size - page)
    path.write_bytes(damaged)
    opened = History(tmp_path)
    assert not path.with_name(f"{FILE_NAME}.corrupt-1").exists()
    opened.add_exec(started("x-2"))
    assert opened.execs("w-1") == (started("x-2"),)
    opened.close()
    assert path.with_name(f"{FILE_NAME}.corrupt-1").read_bytes() == damaged
    assert "the history of commands is lost" in caplog.text


def test_only_some_damaged_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for number in range(7):
        path.write_text(str(number))
        set_aside(path)
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {
        "file.corrupt-1": "0",
        "file.corrupt-2": "1",
        "file.corrupt-3": "2",
        "file.corrupt-4": "3",
        "file.corrupt-5": "6",
    }


def test_the_state_is_its_owners_alone(written: History, tmp_path: Path) -> None:
    written.add_exec(started("x-1"))
    assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}


def test_a_state_that_cannot_be_used_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(HostUnfit) as caught:
        Database(tmp_path / "nowhere" / "file", "", durable=True)
    assert caught.value.code == "home_unusable"


def test_a_transaction_that_fails_changes_nothing(tmp_path: Path, records: Records) -> None:
    assert len(records.all()) == 2
    path = tmp_path / "state.db"
    database = Database(path, "", durable=False)
    with pytest.raises(KeyError):
        _delete_all_and_fail(database)
    assert len(records.all()) == 2
    with pytest.raises(HostUnfit), database.transaction() as to:
        to.execute("not SQL")
    database.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def _delete_all_and_fail(database: Database) -> None:
    with database.transaction() as to:
        to.execute("DELETE FROM workspaces")
        raise KeyError


def test_each_workspace_keeps_its_newest_whoever_else_adds(written: History) -> None:
    for number in range(1200):
        for workspace_id in ("w-1", "w-2"):
            written.add_exec(replace(started(f"x-{number}", workspace_id), status="exited"))
    for workspace_id in ("w-1", "w-2"):
        assert history.KEPT_COMMANDS <= written._count("1", workspace_id)[workspace_id] <= history.KEPT_COMMANDS + 64


def test_a_command_without_end_is_cut(written: History) -> None:
    written.add_exec(replace(started("x-1"), command=("sh", "-c", "a" * 500_000, "never")))
    (kept,) = written.execs("w-1")
    assert kept.command == ("sh", "-c", "a" * 4089 + "...")
