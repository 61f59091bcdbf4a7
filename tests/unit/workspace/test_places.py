"""Where the files of a workspace are, and which of them stay."""

import contextlib
import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyro_mcp.errors import HostUnfit
from pyro_mcp.workspace.places import FIRST_DISK, Places
from pyro_mcp.workspace.record import KeptDisk, WorkspaceRecord

W = "w-1"
RECORD = WorkspaceRecord(
    W,
    "debian:12",
    "digest",
    1,
    512,
    "off",
    "2026-01-01",
    "qemu",
    FIRST_DISK,
    kept=KeptDisk("disk-0.ext4", "2026-01-01"),
)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    made = Places(tmp_path / "home")
    made.home.mkdir()
    made.make(W)
    return made


def _fill(folder: Path) -> None:
    (folder / "file").write_text("content")
    (folder / "below").mkdir()
    (folder / "below" / "link").symlink_to("/etc/hostname")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "sock"))


def test_a_vmm_begins_in_an_empty_folder_of_its_own(places: Places) -> None:
    folder = places.fresh_vmm_folder(W)
    assert folder == places.vmm_folder(W) == places.folder(W) / "vmm"
    assert folder.stat().st_mode & 0o777 == 0o700
    _fill(folder)
    assert os.listdir(places.fresh_vmm_folder(W)) == []


def test_what_a_vmm_leaves_is_removed(places: Places) -> None:
    places.remove_vmm_folder(W)  # there is nothing yet
    _fill(places.fresh_vmm_folder(W))
    places.remove_vmm_folder(W)
    assert os.listdir(places.folder(W)) == []
    assert Path("/etc/hostname").exists()


def test_a_link_in_a_workspaces_folder_goes_and_what_it_leads_to_stays(places: Places, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    places.make("w-one")
    (places.folder("w-one") / "link").symlink_to(elsewhere)
    places.remove("w-one")
    assert not places.folder("w-one").exists()
    assert elsewhere.exists()


def test_where_a_vmm_cannot_have_a_folder_it_is_said(places: Places) -> None:
    places.vmm_folder(W).write_text("in the way")
    with pytest.raises(HostUnfit) as caught:
        places.fresh_vmm_folder(W)
    assert caught.value.code == "home_unusable"


def test_an_unclaimed_machines_folder_is_known_for_one_however_much_of_it_has_been_removed(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    (places.folder(W) / FIRST_DISK).touch()
    places.unclaimed_vmm(W).touch()
    places.no_seed_yet(W).touch()
    _fill(places.fresh_vmm_folder(W))
    steps = 0
    while places.ids():
        with monkeypatch.context() as patch:
            _allow_one_removal(patch)
            with contextlib.suppress(HostUnfit):
                places.remove(W)
        assert places.unclaimed() == places.ids()
        steps += 1
    assert steps >= 9, "it was cut short after each of its files and folders"


def _allow_one_removal(patch: pytest.MonkeyPatch) -> None:
    """After which the disk fails."""
    done: list[Any] = []

    def once(really: Callable[..., None]) -> Callable[..., None]:
        def remove(*args: Any, **options: Any) -> None:
            if done:
                raise OSError(errno.EIO, "cut short")
            done.append(args)
            really(*args, **options)

        return remove

    for name in ("unlink", "rmdir"):
        patch.setattr(os, name, once(getattr(os, name)))


@pytest.mark.parametrize("runs", [True, False])
def test_what_nobody_names_goes_and_what_a_running_vmm_has_stays(places: Places, runs: bool) -> None:
    folder = places.folder(W)
    named = {"seed.sqfs", FIRST_DISK, "disk-0.ext4"}
    for name in (*named, "disk-2.ext4", "agent.sock", "seed.tmp"):
        (folder / name).touch()
    _fill(places.fresh_vmm_folder(W))
    places.sweep(RECORD, runs=runs)
    assert set(os.listdir(folder)) == named | ({"vmm"} if runs else set())
    if runs:
        assert set(os.listdir(places.vmm_folder(W))) == {"below", "file", "sock"}
