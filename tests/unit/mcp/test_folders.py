"""Which folders of the host tools may reach."""

from pathlib import Path

import pytest

from pyro_mcp.errors import InvalidRequest, NotFound
from pyro_mcp.mcp.folders import AllowedFolders, allowed_folders


def test_the_working_directory_the_project_and_what_the_user_named(tmp_path: Path) -> None:
    for name in ("cwd", "project", "named"):
        (tmp_path / name).mkdir()
    found = allowed_folders(["../named"], {"CLAUDE_PROJECT_DIR": str(tmp_path / "project")}, tmp_path / "cwd")
    assert set(found.roots) == {tmp_path / "cwd", tmp_path / "project", tmp_path / "named"}


def test_a_home_is_not_handed_over_unless_it_is_named(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "work").mkdir(parents=True)
    (tmp_path / "alias").symlink_to(home)
    environ = {"HOME": str(tmp_path / "alias"), "CLAUDE_PROJECT_DIR": str(tmp_path)}
    assert allowed_folders([], environ, home).roots == ()
    assert allowed_folders([], {"HOME": ""}, Path("/")).roots == ()
    assert allowed_folders([], environ, home / "work").roots == (home / "work",)
    assert allowed_folders([str(home)], environ, home).roots == (home,)


@pytest.mark.parametrize("project", ["relative", "/does/not/exist", ""])
def test_a_project_that_is_none(tmp_path: Path, project: str) -> None:
    assert allowed_folders([], {"CLAUDE_PROJECT_DIR": project}, tmp_path).roots == (tmp_path,)


def test_paths_are_followed_before_they_are_judged(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "out").symlink_to(tmp_path)
    (root / "in").symlink_to(root / "sub")
    (root / "sub/x").touch()
    folders = AllowedFolders((root,), root)
    assert folders.source("in/x") == str(root / "sub/x")
    assert folders.source(str(root)) == str(root)
    for path in ("out", "out/x", "..", str(tmp_path), "/", "a\0b"):
        with pytest.raises(InvalidRequest):
            folders.source(path)


def test_what_is_missing_is_told_as_it_was_named(tmp_path: Path) -> None:
    folders = AllowedFolders((tmp_path,), tmp_path)
    (tmp_path / "file").touch()
    for asked in (folders.source, folders.output):
        with pytest.raises(NotFound) as caught:
            asked("missing/x")
        assert "'missing/x'" in caught.value.message
        assert str(tmp_path) not in caught.value.message
        assert "relative paths start in the folder that the chat host was started in" in str(caught.value.hint)
        assert asked("file/x") == str(tmp_path / "file/x"), "for others to find out"


def test_a_named_folder_may_be_a_hidden_one(tmp_path: Path) -> None:
    hidden = tmp_path / "p" / ".out"
    hidden.mkdir(parents=True)
    folders = AllowedFolders((tmp_path / "p", hidden), tmp_path)
    assert folders.output("p/.out/x") == str(hidden / "x")
    with pytest.raises(InvalidRequest):
        folders.output("p/.other/x")
