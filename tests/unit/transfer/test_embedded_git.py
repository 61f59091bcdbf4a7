"""Repositories under other names than `.git`, which git on the host must not take for any."""

import io
import os
import subprocess
from pathlib import Path

import pytest

from pyro_mcp.transfer import tree_writer
from pyro_mcp.transfer.landing import Landing
from tests.support.trees import git, tar_bytes

Members = tuple[str, str, bytes | str]
HEAD = b"ref: refs/heads/main\n"
TOP: Members = ("./", "DIRTYPE", "")
STORE: tuple[Members, ...] = (("./d/objects", "DIRTYPE", ""), ("./d/refs", "DIRTYPE", ""))


def land(output: Path, *members: Members, include_git: bool = False) -> Landing:
    landing = Landing(output, include_git=include_git)
    try:
        landing.receive(io.BytesIO(tar_bytes(TOP, *members)))
        landing.settle()
    finally:
        landing.close()
    return landing


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("members", "removed"),
    [
        ([("./d/HEAD", "REGTYPE", HEAD), *STORE], ["d/HEAD"]),
        ([*STORE, ("./d/config", "REGTYPE", b""), ("./d/HEAD", "REGTYPE", HEAD)], ["d/HEAD", "d/config"]),
        ([*STORE, ("./d/HEAD", "SYMTYPE", "refs/heads/main")], ["d/HEAD"]),
        ([*STORE, ("./f", "REGTYPE", HEAD), ("./d/HEAD", "LNKTYPE", "./f")], ["d/HEAD"]),
        (
            [("./d/HEAD", "REGTYPE", HEAD), ("./d/Config.WorkTree", "REGTYPE", b""), *STORE],
            ["d/Config.WorkTree", "d/HEAD"],
        ),
        ([("./d/head", "REGTYPE", HEAD), ("./d/OBJECTS", "REGTYPE", b""), ("./d/Refs", "SYMTYPE", "x")], ["d/head"]),
        ([("./d/HEAD", "REGTYPE", HEAD), ("./d/commondir", "REGTYPE", b"../e\n")], ["d/HEAD"]),
        ([("./d/e/HEAD", "REGTYPE", HEAD), ("./d/e/CommonDir", "SYMTYPE", "x")], ["d/e/HEAD"]),
    ],
)
def test_what_makes_a_repository_is_removed_and_named(
    tmp_path: Path, members: list[Members], removed: list[str]
) -> None:
    landing = land(tmp_path / "plain", *members)
    land(tmp_path / "whole", *members, include_git=True)
    assert landing.skipped.listed() == tuple(removed)
    assert names(tmp_path / "plain") == names(tmp_path / "whole") - set(removed)
    files = [path for path in (tmp_path / "plain").rglob("*") if path.is_symlink() or path.is_file()]
    assert landing.tally.files == len(files)
    assert landing.tally.bytes == sum(path.stat().st_size for path in files if not path.is_symlink())


@pytest.mark.parametrize(
    "members",
    [
        [("./d/HEAD", "REGTYPE", HEAD), ("./d/config", "REGTYPE", b"")],
        [("./d/HEAD", "REGTYPE", HEAD), ("./d/objects", "DIRTYPE", "")],
        [*STORE, ("./d/config", "REGTYPE", b"")],
        [*STORE, ("./HEAD", "REGTYPE", HEAD)],
        [*STORE, ("./d/HEAD", "DIRTYPE", "")],
    ],
)
def test_other_folders_stay_as_they_are(tmp_path: Path, members: list[Members]) -> None:
    landing = land(tmp_path / "plain", *members)
    land(tmp_path / "whole", *members, include_git=True)
    assert landing.skipped.listed() == ()
    assert names(tmp_path / "plain") == names(tmp_path / "whole")


def test_git_runs_nothing_in_what_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_writer, "_keeps_owner", lambda _about: False)  # git trusts no repository of others
    core = ("repositoryformatversion = 0", "bare = false", "worktree = .", f'fsmonitor = "touch {tmp_path}/ran; false"')
    config = "\n".join(("[core]", *core, "")).encode()
    members: list[Members] = [
        ("./HEAD", "REGTYPE", HEAD),
        ("./config", "REGTYPE", config),
        ("./objects/", "DIRTYPE", ""),
        ("./refs/", "DIRTYPE", ""),
    ]
    land(tmp_path / "whole", *members, include_git=True)
    git(tmp_path / "whole", "status")
    (tmp_path / "ran").unlink()  # it does what is feared
    assert land(tmp_path / "plain", *members).skipped.listed() == ("HEAD", "config")
    with pytest.raises(subprocess.CalledProcessError):
        git(tmp_path / "plain", "status")
    assert sorted(os.listdir(tmp_path)) == ["plain", "whole"]


def test_times_of_folders_are_those_that_came(tmp_path: Path) -> None:
    land(tmp_path / "x", ("./d", "DIRTYPE", ""), ("./d/HEAD", "REGTYPE", HEAD), *STORE)
    assert (tmp_path / "x/d").stat().st_mtime == 1_000_000_000
