"""What workspaces may be called, and which one a word means."""

import pytest

from pyro_mcp.errors import InvalidRequest, NotFound
from pyro_mcp.workspace import names
from pyro_mcp.workspace.record import DELETED, RUNNING, WorkspaceRecord


def record(workspace_id: str, name: str | None = None, state: str = RUNNING) -> WorkspaceRecord:
    return WorkspaceRecord(workspace_id, "debian:12", "d", 1, 512, "off", "t", "qemu", "disk-1.ext4", state, name)


ALL = (record("w-ab23", "first"), record("w-ab45", "second"), record("w-cd23", "first", DELETED))


@pytest.mark.parametrize("reference", ["w-ab23", "first", "w-ab2"])
def test_ids_names_and_beginnings_of_ids_mean_a_workspace(reference: str) -> None:
    assert names.find(ALL, reference).workspace_id == "w-ab23"


@pytest.mark.parametrize("reference", ["w-cd23", "w-c"])
def test_deleted_ones_are_meant_where_no_other_is(reference: str) -> None:
    assert names.find(ALL, reference).state == DELETED


def test_a_beginning_of_several_ids_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        names.find(ALL, "w-ab")
    assert caught.value.code == "ambiguous_workspace"
    assert "w-ab23, w-ab45" in caught.value.message


@pytest.mark.parametrize(("reference", "near"), [("secnod", "second"), ("w-ab32", "w-ab23"), ("", None), ("zzz", None)])
def test_an_unknown_one_is_told_with_the_nearest(reference: str, near: str | None) -> None:
    with pytest.raises(NotFound) as caught:
        names.find(ALL, reference)
    assert caught.value.code == "unknown_workspace"
    assert (near is None) == ("did you mean" not in (caught.value.hint or ""))
    assert (near or "") in (caught.value.hint or "")


@pytest.mark.parametrize("reference", ["", "w", "w-"])
@pytest.mark.parametrize("state", [RUNNING, DELETED])
def test_what_every_id_begins_with_means_none(reference: str, state: str) -> None:
    """As in `pyro workspace delete w-$W` where W is empty."""
    with pytest.raises(NotFound) as caught:
        names.find([record("w-ab23", state=state)], reference)
    assert caught.value.code == "unknown_workspace"
    assert "pyro workspace list" in str(caught.value.hint)


def test_one_may_have_such_a_name() -> None:
    assert names.find([record("w-ab23"), record("w-cd45", "w"), record("w-ef67", "w-")], "w").workspace_id == "w-cd45"


def test_new_ids_are_not_taken_and_easy_to_read() -> None:
    made = {names.new_id(()) for _ in range(200)}
    assert all(len(each) == 6 and each.startswith("w-") and not set("il01o") & set(each[2:]) for each in made)
    first = next(iter(made))
    assert names.new_id({first}) != first


@pytest.mark.parametrize("name", ["a", "A.b_c-d", "7", "x" * 63, "w-one", "w-abcde"])
def test_names_that_can_be(name: str) -> None:
    names.check_name(name)


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a/b", "x" * 64, "ü", "a\n", "w-ab23"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        names.check_name(name)
    assert caught.value.code == "bad_name"
    assert caught.value.hint


@pytest.mark.parametrize(
    "labels",
    [{f"k{n}": "" for n in range(33)}, {"a b": ""}, {"a": "x" * 257}, {"a": "ü" * 129}, {"a": "b\n"}, {"a": "\ud800"}],
)
def test_labels_that_cannot_be(labels: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        names.check_labels(labels)
    assert caught.value.code == "bad_label"


def test_labels_that_can_be() -> None:
    names.check_labels({"a": "", "b.c": "grün " * 40})
