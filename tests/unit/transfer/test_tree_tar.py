"""Walking trees of the host, also while they change."""

import os
import socket
from pathlib import Path

import pytest

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.transfer import limits, tree, tree_tar
from pyro_mcp.transfer.limits import Stopped, Tally
from pyro_mcp.transfer.tree import Chosen
from tests.support.other_user import as_user
from tests.support.trees import part, sample_tree, tar_of


def paths(folder: Path, chosen: Chosen | None = None, prefix: str = "") -> list[str]:
    with part(folder, chosen, prefix) as whole:
        return [found.path for found in tree.walk(whole)]


def test_a_folder_comes_before_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "b/c").mkdir(parents=True)
    (tmp_path / "b/a").touch()
    (tmp_path / "a").touch()
    (tmp_path / "b/link").symlink_to("c")
    assert paths(tmp_path) == ["a", "b", "b/a", "b/c", "b/link"]
    assert paths(tmp_path, prefix="x/") == ["x/a", "x/b", "x/b/a", "x/b/c", "x/b/link"]


def test_only_what_was_chosen_is_found_and_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "tree/d/whole").mkdir(parents=True)
    for name in ("d/yes", "d/no", "d/whole/x", "f"):
        (tmp_path / "tree" / name).touch()
    (tmp_path / "tree/swapped").symlink_to("d")
    chosen: Chosen = {"d": {"yes": None, "gone": None, "whole": None}, "swapped": {"yes": None}, "missing": {"x": None}}
    assert paths(tmp_path / "tree", chosen) == ["d", "d/whole", "d/whole/x", "d/yes", "swapped"]


def test_a_scan_counts_what_is_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = sample_tree(tmp_path / "tree")
    monkeypatch.chdir(folder)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
    os.mkfifo(folder / "fifo")
    scanned = Tally()
    with part(folder) as whole:
        tree_tar.scan([whole], scanned)
    assert scanned == tar_of(folder, tmp_path / "archive")
    assert scanned.skipped == 2
    assert scanned.files > 5


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    (folder / "d").mkdir(parents=True)
    (folder / "d/f").touch()
    # Open already: the user may not come through the folders above.
    with part(folder) as whole, as_user(folder):
        for name, mode in (("d/f", 0o000), ("d", 0o300), ("d", 0o600)):
            before = os.stat(name, dir_fd=whole.fd).st_mode & 0o7777
            os.chmod(name, mode, dir_fd=whole.fd)
            with pytest.raises(InvalidRequest, match=f"{folder}/d") as refused:
                tree_tar.scan([whole], Tally())
            assert refused.value.code == "path_unreadable"
            os.chmod(name, before, dir_fd=whole.fd)
        tree_tar.scan([whole], Tally())


def test_limits_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/big").touch()
    os.truncate(tmp_path / "tree/big", limits.MAX_BYTES + 1)
    with part(tmp_path / "tree") as whole:
        with pytest.raises(InvalidRequest, match="8192 MiB") as refused:
            tree_tar.scan([whole], Tally())
        assert refused.value.code == "seed_too_large"
        with pytest.raises(InvalidRequest, match="more than 0 files"):
            tree_tar.scan([whole], Tally(max_bytes=1 << 40, max_entries=0))
        stopped = Tally()
        stopped.stop()
        with pytest.raises(Stopped):
            tree_tar.scan([whole], stopped)
    monkeypatch.setattr(tree, "MAX_DEPTH", 3)
    (tmp_path / "tree/1/2/3/4").mkdir(parents=True)
    with pytest.raises(InvalidRequest, match="deeper"):
        paths(tmp_path / "tree")


def test_files_that_shrink_grow_and_vanish_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tree"
    folder.mkdir()
    for name in ("grows", "shrinks", "turns", "vanishes"):
        (folder / name).write_bytes(b"12345")
    look, opened = tree._look, tree.open_file

    def look_too_early(fd: int, name: str, relative: str, whole: tree.Part) -> tree.Found | None:
        found = look(fd, name, relative, whole)
        if name in ("vanishes", "turns"):
            (folder / name).unlink()
        if name == "turns":
            (folder / name).symlink_to("/etc/passwd")
        return found

    def open_too_early(found: tree.Found, path: str) -> tuple[int, os.stat_result] | None:
        result = opened(found, path)
        if result is not None:
            (folder / found.name).write_bytes(b"1" if found.name == "shrinks" else b"1234567")
        return result

    monkeypatch.setattr(tree, "_look", look_too_early)
    monkeypatch.setattr(tree, "open_file", open_too_early)
    tally = tar_of(folder, tmp_path / "archive")
    assert (tally.files, tally.bytes, tally.changed) == (2, 10, 1)


def test_a_disk_that_fails_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_text("x")

    def fails(_fd: int, _size: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "read", fails)
    with pytest.raises(Exception, match="f cannot be read: Input/output error"):
        tar_of(tmp_path, tmp_path / "archive")
