"""Names and labels of workspaces, changed; the guests are fake."""

import asyncio

import pytest

from pyro_mcp.errors import Conflict, InvalidRequest, NotFound
from pyro_mcp.workspace.engine import Workspaces
from pyro_mcp.workspace_models import CreateWorkspace, UpdateWorkspace
from tests.support.nobody import nobody

DEBIAN = CreateWorkspace("debian:12")


async def test_names_and_labels_can_be_changed(workspaces: Workspaces) -> None:
    first = await workspaces.create(CreateWorkspace("debian:12", name="first", labels={"a": "1", "b": "2"}), nobody)
    second = await workspaces.create(DEBIAN, nobody)
    info = await workspaces.update("first", UpdateWorkspace(labels={"c": "3"}, clear_labels=("a",)))
    assert (info.name, info.labels) == ("first", {"b": "2", "c": "3"})
    assert (await workspaces.update(second.workspace_id, UpdateWorkspace(name="second"))).name == "second"
    with pytest.raises(Conflict) as caught:
        await workspaces.update("second", UpdateWorkspace(name="first"))
    assert caught.value.code == "name_in_use"
    assert (await workspaces.update("first", UpdateWorkspace(clear_name=True))).name is None
    assert (await workspaces.update("second", UpdateWorkspace(name="first"))).name == "first"
    assert workspaces.info(first.workspace_id).name is None
    with pytest.raises(NotFound) as unknown:
        workspaces.info("frist")
    assert "first" in (unknown.value.hint or "")


async def test_changes_of_labels_at_the_same_time_do_not_undo_each_other(workspaces: Workspaces) -> None:
    w = (await workspaces.create(DEBIAN, nobody)).workspace_id
    changes = [workspaces.update(w, UpdateWorkspace(labels={f"k{number}": "v"})) for number in range(20)]
    await asyncio.gather(*changes, workspaces.update(w, UpdateWorkspace(name="both")))
    info = workspaces.info(w)
    assert (info.name, len(info.labels)) == ("both", 20)


async def test_a_change_that_is_refused_changes_nothing(workspaces: Workspaces) -> None:
    made = await workspaces.create(CreateWorkspace("debian:12", name="first", labels={"a": "1"}), nobody)
    refused = {
        "bad_name": UpdateWorkspace(name="new", clear_name=True, labels={"b": "2"}),
        "bad_label": UpdateWorkspace(name="new", labels={"b c": "2"}),
    }
    for code, request in refused.items():
        with pytest.raises(InvalidRequest) as caught:
            await workspaces.update("first", request)
        assert caught.value.code == code
    assert workspaces.info("first") == made
