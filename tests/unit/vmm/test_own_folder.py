"""Folders of VMMs: there for as long as they are needed, and their owners' alone."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pyro_mcp.process_watch import start_time
from pyro_mcp.vmm import user_ids
from pyro_mcp.vmm.own_folder import hand_over, own_folder, remove_leftovers
from tests.support.descriptors import none_left
from tests.support.held_folder import held_by_another

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def _fill(folder: Path) -> None:
    (folder / "file").write_text("content")
    (folder / "below").mkdir()
    (folder / "below" / "file").touch(mode=0)
    (folder / "link").symlink_to("/etc/hostname")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "sock"))


def test_it_is_empty_and_ours_alone_and_gone_afterwards(tmp_path: Path) -> None:
    run_dir = tmp_path / "not" / "there"
    with own_folder(run_dir) as first, own_folder(run_dir) as second:
        assert first != second
        assert {first.parent, second.parent} == {run_dir}
        assert list(first.iterdir()) == []
        assert first.stat().st_mode & 0o777 == 0o700
        _fill(first)
    assert list(run_dir.iterdir()) == []


def test_it_is_gone_after_a_failure_too(tmp_path: Path) -> None:
    def fail() -> None:
        with own_folder(tmp_path) as folder:
            _fill(folder)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_one_that_is_gone_already_is_no_error(tmp_path: Path) -> None:
    with own_folder(tmp_path) as folder:
        folder.rmdir()


def test_where_it_cannot_be_made_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), own_folder(tmp_path / "file"):
        raise AssertionError("there is none")


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_nobody_else_may_look_into_the_folders_above(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with own_folder(tmp_path / "home" / "run") as folder:
            modes = {path.stat().st_mode & 0o777 for path in (folder, folder.parent)}
    finally:
        os.umask(before)
    assert modes == {0o700}


def test_a_folder_that_is_let_go_or_cannot_be_made_leaves_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with none_left():
        with own_folder(tmp_path / "run"):
            remove_leftovers(tmp_path / "run")
        with pytest.raises(OSError, match="file"), own_folder(tmp_path / "file"):
            raise AssertionError("there is none")
        remove_leftovers(tmp_path / "run")


# What is left of others


def test_what_is_left_of_others_is_removed(tmp_path: Path) -> None:
    run_dir = tmp_path / "vmms"
    remove_leftovers(run_dir)  # nothing was ever there
    assert not run_dir.exists()
    for name in ("dead", "another"):
        (run_dir / name).mkdir(parents=True)
        _fill(run_dir / name)
    remove_leftovers(run_dir)
    assert list(run_dir.iterdir()) == []
    remove_leftovers(run_dir)
    with own_folder(run_dir) as folder:
        assert folder.exists()


def test_what_somebody_here_still_has_is_left(tmp_path: Path) -> None:
    (tmp_path / "dead").mkdir()
    with own_folder(tmp_path) as first, own_folder(tmp_path) as second:
        _fill(first)
        remove_leftovers(tmp_path)
        assert set(tmp_path.iterdir()) == {first, second}
        assert len(list(first.iterdir())) == 4
    assert list(tmp_path.iterdir()) == []


def test_what_another_process_has_is_left_until_that_is_killed(tmp_path: Path) -> None:
    """A daemon may start while a doctor proves KVM; and be killed, as a doctor may."""
    with held_by_another(tmp_path) as living, held_by_another(tmp_path) as dead:
        remove_leftovers(tmp_path)
        assert set(tmp_path.iterdir()) == {living.folder, dead.folder}
        dead.kill()
        assert dead.folder.exists()
        assert start_time(dead.child) is not None, "what it started holds nothing, even where it lives on"
        remove_leftovers(tmp_path)
        assert list(tmp_path.iterdir()) == [living.folder]
        assert (living.folder / "below" / "file").read_text() == "in use"
        living.let_go()
        assert list(tmp_path.iterdir()) == []


def test_who_removes_them_never_takes_one_that_is_only_just_made(tmp_path: Path) -> None:
    """With folders made and let go as fast as can be."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom pyro_mcp.vmm.own_folder import own_folder\n"
        "print(flush=True)\n"
        "for _ in range(1000):\n"
        "    with own_folder(Path(sys.argv[1])) as folder:\n"
        "        (folder / 'file').touch()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE) as making:
        assert making.stdout is not None
        making.stdout.readline()
        while making.poll() is None:
            remove_leftovers(tmp_path)
    assert making.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_folder_is_no_reason_not_to_start(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    run_dir = tmp_path / "run"
    (run_dir / "dead").mkdir(parents=True)
    _fill(run_dir)
    (run_dir / "folder").symlink_to(elsewhere)
    remove_leftovers(run_dir)
    assert not (run_dir / "dead").exists()
    assert not (run_dir / "below").exists()
    assert (elsewhere / "file").exists(), "a link was followed"


@only_root
def test_it_is_handed_over_with_all_in_it(tmp_path: Path) -> None:
    user = user_ids.unused()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("root's")
    with own_folder(tmp_path / "run") as folder:
        (folder / "file").touch(mode=0o600)
        (folder / "link").symlink_to(elsewhere)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder / "sock"))
        disk = os.open(tmp_path / "disk", os.O_RDWR | os.O_CREAT, 0o600)
        other = os.memfd_create("other")
        hand_over(user, folder, disk, other)
        owners = {path.name: path.lstat() for path in (folder, *folder.iterdir())}
        assert set(owners) == {folder.name, "file", "link", "sock"}
        assert {(owner.st_uid, owner.st_gid) for owner in owners.values()} == {(user, user)}
        assert [os.fstat(fd).st_uid for fd in (disk, other)] == [user, user]
        assert (tmp_path / "run").stat().st_uid == 0
        for fd in (disk, other):
            os.close(fd)
    assert elsewhere.stat().st_uid == 0, "a link was followed"


@only_root
def test_one_that_was_handed_over_can_still_be_removed(tmp_path: Path) -> None:
    with own_folder(tmp_path) as folder:
        _fill(folder)
        hand_over(user_ids.unused(), folder)
    assert list(tmp_path.iterdir()) == []
