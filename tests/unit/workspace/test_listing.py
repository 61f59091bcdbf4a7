"""Listings remember what they described, and show every change all the same; the guests are fake."""

import os

import pytest

from pyro_mcp.workspace.engine import Workspaces
from pyro_mcp.workspace_models import CreateWorkspace, RestoreWorkspace, UpdateWorkspace, WorkspaceInfo
from tests.support.fake_kept import Engine
from tests.support.nobody import nobody


@pytest.fixture
async def two(workspaces: Workspaces) -> tuple[str, str]:
    """The ids of two workspaces."""
    first, second = [await workspaces.create(CreateWorkspace("debian:12", name=name), nobody) for name in ("a", "b")]
    return first.workspace_id, second.workspace_id


def listed(workspaces: Workspaces) -> dict[str, WorkspaceInfo]:
    return {info.workspace_id: info for info in workspaces.list(deleted=False)}


async def test_what_rests_is_described_once(workspaces: Workspaces, two: tuple[str, str]) -> None:
    before = workspaces.list(deleted=False)
    assert [info.workspace_id for info in before] == list(two)
    assert all(now is then for now, then in zip(workspaces.list(deleted=False), before, strict=True))


async def test_what_changes_is_seen_in_the_next_listing(workspaces: Workspaces, two: tuple[str, str]) -> None:
    first, second = two
    assert listed(workspaces)[first].name == "a"
    await workspaces.update(first, UpdateWorkspace(name="c", labels={"l": "1"}))
    assert (listed(workspaces)[first].name, listed(workspaces)[first].labels) == ("c", {"l": "1"})
    await workspaces.stop(first)
    assert (listed(workspaces)[first].state, listed(workspaces)[second].state) == ("stopped", "running")
    await workspaces.delete(first)
    assert list(listed(workspaces)) == [second]
    assert [info.recoverable for info in workspaces.list(deleted=True)] == [("delete",)]
    await workspaces.restore(first, RestoreWorkspace())
    assert set(listed(workspaces)) == {first, second}
    for workspace in two:
        assert listed(workspaces)[workspace] == workspaces.info(workspace)


async def test_a_disk_that_grows_is_seen_though_nothing_is_written_down(
    workspaces: Workspaces, engine: Engine, two: tuple[str, str]
) -> None:
    first, second = two
    before = listed(workspaces)
    (disk,) = (engine.home / "workspaces" / first).glob("disk-*")
    with disk.open("ab") as file:
        file.write(os.urandom(1 << 20))
    after = listed(workspaces)
    assert after[first].disk_bytes - before[first].disk_bytes >= 1 << 20
    assert after[second] is before[second]
