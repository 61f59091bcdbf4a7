"""Paths in a workspace as users write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.workspace.paths import inside


@pytest.mark.parametrize(
    ("path", "absolute"),
    [
        ("a", "/workspace/a"),
        (".", "/workspace"),
        ("a/../b", "/workspace/b"),
        ("./a//b/", "/workspace/a/b"),
        ("/workspace", "/workspace"),
        ("/workspace/", "/workspace"),
        ("//workspace/a", "/workspace/a"),
        ("///workspace/a", "/workspace/a"),
        ("/workspace/a/..", "/workspace"),
        ("/../workspace/a", "/workspace/a"),
        ("../workspace/a", "/workspace/a"),
        ("workspace", "/workspace/workspace"),
        ("ä ö", "/workspace/ä ö"),
        ("~", "/workspace/~"),
        ("x" * 4000, "/workspace/" + "x" * 4000),
    ],
)
def test_what_is_inside(path: str, absolute: str) -> None:
    assert inside(path) == absolute


def test_an_empty_path_is_told_what_to_give_instead() -> None:
    with pytest.raises(InvalidRequest) as caught:
        inside("")
    assert (caught.value.message, caught.value.hint) == (
        "the path is empty",
        "give a path below /workspace, or . for that folder",
    )


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("", "bad_path"),
        ("a\0b", "bad_path"),
        ("\ud800", "bad_path"),
        ("x" * 4096, "bad_path"),
        ("..", "outside_workspace"),
        ("a/../../b", "outside_workspace"),
        ("/", "outside_workspace"),
        ("/etc/passwd", "outside_workspace"),
        ("/workspaces", "outside_workspace"),
        ("/workspace/../etc", "outside_workspace"),
        ("../etc\x1b[31m", "outside_workspace"),
    ],
)
def test_what_is_not(path: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        inside(path)
    assert caught.value.code == code
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 1000


@given(st.lists(st.sampled_from(["..", ".", "", "a", "workspace", "b c"]), max_size=8).map("/".join))
def test_nothing_leads_out(path: str) -> None:
    try:
        found = inside(path)
    except InvalidRequest:
        return
    assert found == "/workspace" or found.startswith("/workspace/")
    assert ".." not in found.split("/")
    assert inside(found) == found
