"""Control groups, in a folder that behaves like the kernel's as far as it matters; tests/vm has VMMs in real ones."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyro_mcp.process import spawn
from pyro_mcp.vmm import cgroup
from pyro_mcp.vmm.cgroup import Cgroups

FILES = ("memory.max", "pids.max", "cgroup.procs", "cgroup.subtree_control")


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    cgroup.find.cache_clear()
    yield
    cgroup.find.cache_clear()


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cgroup v2 mount in which we are `/ours/now`; a group has its files at once, and goes when nobody is in it."""
    make, remove = Path.mkdir, Path.rmdir
    mount = tmp_path / "cgroup"

    def mkdir(path: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        there = path.exists()
        make(path, mode, parents, exist_ok)
        if path.is_relative_to(mount) and not there:
            for name in FILES:
                (path / name).touch()

    def rmdir(path: Path) -> None:
        if not path.is_relative_to(mount) or not path.exists():
            remove(path)
        elif (path / "cgroup.procs").read_text() or any(below.is_dir() for below in path.iterdir()):
            raise OSError(16, "Device or resource busy")
        else:
            shutil.rmtree(path)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(Path, "rmdir", rmdir)
    for path in (mount, mount / "ours", mount / "ours" / "now"):
        path.mkdir()
    (mount / "cgroup.procs").chmod(0o444)
    monkeypatch.setattr(cgroup, "_mount", lambda: mount)
    monkeypatch.setattr(cgroup, "_own_group", lambda: "ours/now")
    monkeypatch.setattr(os, "access", lambda path, _mode: bool(Path(path).stat().st_mode & 0o200))
    return mount


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that the kernel lets nobody write."""
    write, files = Path.write_text, list[Path]()

    def write_text(path: Path, data: str) -> int:
        if path in files:
            raise OSError(16, "Device or resource busy")
        return write(path, data)

    monkeypatch.setattr(Path, "write_text", write_text)
    return files


def test_groups_are_made_in_the_topmost_that_is_ours(kernel: Path) -> None:
    groups = cgroup.find()
    assert groups == Cgroups(kernel / "ours" / "pyro")
    assert cgroup.find() is groups, "it is looked for once"
    assert [path.name for path in groups.base.iterdir() if path.is_dir()] == [], "the probe is left"
    for group in (kernel / "ours", groups.base):
        assert (group / "cgroup.subtree_control").read_text().split() == ["+memory", "+pids"]


def test_what_is_enabled_already_is_left_alone(kernel: Path) -> None:
    (kernel / "ours" / "cgroup.subtree_control").write_text("cpu memory pids")
    assert cgroup.find() is not None
    assert (kernel / "ours" / "cgroup.subtree_control").read_text() == "cpu memory pids"


@pytest.mark.parametrize("missing", ["mount", "group", "right", "limits"])
def test_where_none_can_be_made_vmms_have_none(kernel: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    match missing:
        case "mount":
            monkeypatch.setattr(cgroup, "_mount", lambda: None)
        case "group":
            monkeypatch.setattr(cgroup, "_own_group", lambda: None)
        case "right":
            (kernel / "ours" / "now" / "cgroup.procs").chmod(0o444)
        case _:

            def refuse(_group: Path) -> None:
                raise OSError(2, "no such controller")

            monkeypatch.setattr(cgroup, "_enable", refuse)
    assert cgroup.find() is None
    with cgroup.joining("vm-1", 512) as join:
        assert join is None
    cgroup.remove("vm-1")
    cgroup.sweep()
    assert not (kernel / "ours" / "pyro").exists(), "an empty group is left"


@pytest.mark.parametrize("forbidden", ["ours/cgroup.subtree_control", "ours/pyro/cgroup.subtree_control"])
def test_where_controllers_may_not_be_enabled_nothing_is_left(
    kernel: Path, refused: list[Path], forbidden: str
) -> None:
    """As where processes are in the topmost group, or its own may have no more controllers."""
    refused.append(kernel / forbidden)
    assert cgroup.find() is None
    assert not (kernel / "ours" / "pyro").exists()


@pytest.mark.parametrize("forbidden", ["memory.max", "pids.max"])
def test_where_no_limits_may_be_set_nothing_is_left(kernel: Path, refused: list[Path], forbidden: str) -> None:
    refused.append(kernel / "ours" / "pyro" / f"probe-{os.getpid()}" / forbidden)
    assert cgroup.find() is None
    assert not (kernel / "ours" / "pyro").exists()


def test_a_group_in_which_others_have_vmms_is_left_alone(kernel: Path, refused: list[Path]) -> None:
    """Whoever made it could, or could then."""
    theirs = kernel / "ours" / "pyro" / "vm-1"
    theirs.parent.mkdir()
    theirs.mkdir()
    refused.append(kernel / "ours" / "cgroup.subtree_control")
    assert cgroup.find() is None
    assert theirs.is_dir()
    assert [path.name for path in theirs.parent.iterdir() if path.is_dir()] == ["vm-1"]


def test_a_group_has_its_limits_before_anybody_joins(kernel: Path) -> None:
    groups = cgroup.find()
    assert groups is not None
    with cgroup.joining("vm-1", 512) as join:
        group = groups.base / "vm-1"
        assert int((group / "memory.max").read_text()) == (512 + 1536) << 20
        assert int((group / "pids.max").read_text()) == 64
        assert join is not None
        assert not os.get_inheritable(join)
        os.write(join, b"0")
        assert (group / "cgroup.procs").read_text() == "0"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(join)


def test_a_group_that_cannot_be_made_is_told_and_done_without(kernel: Path, caplog: pytest.LogCaptureFixture) -> None:
    groups = cgroup.find()
    assert groups is not None
    (groups.base / "vm-1").write_text("in the way")
    with cgroup.joining("vm-1", 512) as join:
        assert join is None
    assert "no control group" in caplog.text


def test_an_error_of_whoever_joins_is_not_taken_for_one_of_the_group(kernel: Path) -> None:
    cgroup.find()
    with pytest.raises(FileNotFoundError, match="mine"), cgroup.joining("vm-1", 512):
        raise FileNotFoundError("mine")


def test_a_group_is_removed_when_the_last_has_gone(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = cgroup.find()
    assert groups is not None
    with cgroup.joining("vm-1", 512):
        pass
    group = groups.base / "vm-1"
    (group / "cgroup.procs").write_text("4242")
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            (group / "cgroup.procs").write_text("")

    monkeypatch.setattr(time, "sleep", sleep)
    cgroup.remove("vm-1")
    assert not group.exists()
    assert len(looks) == 3
    cgroup.remove("vm-1")  # there is none any more


def test_one_that_does_not_become_empty_is_left(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = cgroup.find()
    assert groups is not None
    monkeypatch.setattr(cgroup, "_EMPTY_WITHIN_SECONDS", 0.02)
    with cgroup.joining("vm-1", 512):
        pass
    (groups.base / "vm-1" / "cgroup.procs").write_text("4242")
    cgroup.remove("vm-1")
    assert (groups.base / "vm-1").exists()


def test_old_groups_that_are_empty_are_swept_away(kernel: Path) -> None:
    groups = cgroup.find()
    assert groups is not None
    for name in ("new", "old", "old-in-use"):
        with cgroup.joining(name, 512):
            pass
    (groups.base / "old-in-use" / "cgroup.procs").write_text("4242")
    for name in ("old", "old-in-use"):
        os.utime(groups.base / name, (1, 1))
    cgroup.sweep()
    assert sorted(path.name for path in groups.base.iterdir() if path.is_dir()) == ["new", "old-in-use"]


def test_the_group_of_a_folder_is_always_the_same_and_no_others(tmp_path: Path) -> None:
    assert cgroup.name_for(tmp_path / "a") == cgroup.name_for(tmp_path / "a")
    names = {cgroup.name_for(tmp_path / "a"), cgroup.name_for(tmp_path / "b"), cgroup.new_name(), cgroup.new_name()}
    assert len(names) == 4
    assert all(len(name) < 64 and "/" not in name for name in names)


def test_our_own_groups_are_known_up_to_the_outermost(monkeypatch: pytest.MonkeyPatch) -> None:
    mount = Path("/sys/fs/cgroup")
    monkeypatch.setattr(cgroup, "_mount", lambda: mount)
    monkeypatch.setattr(cgroup, "_own_group", lambda: "ours/now")
    assert cgroup.own_groups() == (mount / "ours" / "now", mount / "ours", mount)
    monkeypatch.setattr(cgroup, "_own_group", lambda: "")
    assert cgroup.own_groups() == (mount,)
    monkeypatch.setattr(cgroup, "_mount", lambda: None)
    assert cgroup.own_groups() == ()


def test_the_kernels_own_words_are_understood() -> None:
    """Wherever this runs: a mount that is there, and a group in it, or none."""
    mount, own = cgroup._mount(), cgroup._own_group()
    assert mount is None or (mount / "cgroup.procs").exists()
    assert own is None or not own.startswith("/")


async def test_a_process_joins_before_it_is_the_program(tmp_path: Path) -> None:
    """Whatever it starts is in its group, too; the group is stood for by a file."""
    fd = os.open(tmp_path / "cgroup.procs", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC)
    process = spawn(["true"], join=fd)
    assert await process.close() == 0
    assert (tmp_path / "cgroup.procs").read_text() == "0"
    os.close(fd)
