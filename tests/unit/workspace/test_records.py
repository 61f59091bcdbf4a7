"""What is written down of workspaces: every look sees all that was written before it."""

from dataclasses import replace
from pathlib import Path

import pytest

from pyro_mcp.errors import HostUnfit
from pyro_mcp.workspace import records as records_module
from pyro_mcp.workspace.database import Database
from pyro_mcp.workspace.record import RUNNING, WorkspaceRecord
from pyro_mcp.workspace.records import Records
from tests.support.descriptors import none_left

FIRST = WorkspaceRecord("w-1", "debian:12", "0" * 64, 1, 512, "off", "2026-01-01T00:00:00+00:00", "qemu", "disk-1.ext4")


def test_all_are_read_anew_after_every_change_and_only_then(tmp_path: Path) -> None:
    records, others = Records(tmp_path), Records(tmp_path)
    assert records.all() == ()
    records.add(FIRST)
    assert records.all() == (FIRST,)
    assert records.all() is records.all()
    records.running("w-1", None, "disk-1.ext4")
    assert records.all() == (replace(FIRST, state=RUNNING),)
    others.describe("w-1", lambda record: replace(record, name="theirs", labels={"a": "b"}))
    assert records.all() == (replace(FIRST, state=RUNNING, name="theirs", labels={"a": "b"}),)
    others.close()
    records.close()


def test_where_they_can_be_written_but_not_read_nothing_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def only_durable(path: Path, schema: str, *, durable: bool) -> Database:
        if durable:
            return Database(path, schema, durable=True)
        raise HostUnfit("home_unusable", "the disk fails")

    monkeypatch.setattr(records_module, "Database", only_durable)
    with none_left(), pytest.raises(HostUnfit, match="fails"):
        Records(tmp_path)
