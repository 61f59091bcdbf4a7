"""Images that workspaces need stay, for as long as the workspaces do."""

import errno
import os
from pathlib import Path

import pytest

from pyro_mcp.errors import HostUnfit
from pyro_mcp.images import uses
from pyro_mcp.images.prune import prune
from pyro_mcp.images.pull import pull
from pyro_mcp.images.store import Store, reference
from tests.unit.images.conftest import fill
from tests.unit.images.fake_source import FakeSource


async def replaced_and_needed_by(store: Store, owner: Path) -> str:
    """An image that no name stands for any more; returns its digest."""
    await pull(store, "debian:12", FakeSource(b"old"), lambda progress: None)
    old = reference(store, "debian:12")
    assert old is not None
    owner.mkdir(parents=True)  # noqa: ASYNC240  (a test has a loop to itself)
    uses.keep(store, old.digest, owner)
    await pull(store, "debian:12", FakeSource(b"new"), lambda progress: None)
    return old.digest


async def test_a_needed_image_stays_until_it_is_released(store: Store, tmp_path: Path) -> None:
    owner = tmp_path / "home" / "workspaces" / "w-1"
    digest = await replaced_and_needed_by(store, owner)
    assert (await prune(store)).removed == ()
    assert uses.needed(store) == {digest}
    uses.release(store, owner)
    uses.release(store, owner)
    assert (await prune(store)).removed == (f"image sha256-{digest}",)


async def test_workspaces_of_several_homes_need_an_image(store: Store, tmp_path: Path) -> None:
    owner, other = tmp_path / "home" / "w-1", tmp_path / "other" / "w-1"
    digest = await replaced_and_needed_by(store, owner)
    other.mkdir(parents=True)
    uses.keep(store, digest, other)
    uses.release(store, owner)
    assert (await prune(store)).removed == ()


async def test_a_workspace_whose_folder_was_removed_by_hand_needs_nothing(store: Store, tmp_path: Path) -> None:
    owner = tmp_path / "home" / "w-1"
    digest = await replaced_and_needed_by(store, owner)
    owner.rmdir()
    assert (await prune(store, dry_run=True)).removed == (f"image sha256-{digest}",)
    assert len(list((store.cache_dir / "uses").iterdir())) == 1
    assert (await prune(store)).removed == (f"image sha256-{digest}",)
    assert list((store.cache_dir / "uses").iterdir()) == []


async def test_rubbish_among_the_uses_is_of_no_account(store: Store, tmp_path: Path) -> None:
    digest = await replaced_and_needed_by(store, tmp_path / "w-1")
    (store.cache_dir / "uses" / "rubbish.json").write_text("{")
    (tmp_path / "file").touch()
    uses.keep(store, digest, tmp_path / "file" / "below")
    assert uses.needed(store) == {digest}
    assert (await prune(store)).removed == ()


def test_a_full_disk_is_told_with_what_frees_it(small_file_system: Path, tmp_path: Path) -> None:
    store = Store(small_file_system)
    store.prepare()
    with store.lock():
        fill(small_file_system)
    with pytest.raises(HostUnfit) as caught:
        uses.keep(store, "digest", tmp_path)
    assert caught.value.code == "no_disk_space"
    assert "pyro env prune" in str(caught.value.hint)
    assert list((small_file_system / "uses").iterdir()) == []


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EIO])
def test_uses_that_cannot_be_written_are_told(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(path: Path, _value: object) -> None:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(uses, "write_json", refuse)
    with pytest.raises(HostUnfit, match=os.strerror(code)) as caught:
        uses.keep(store, "digest", tmp_path)
    assert caught.value.code == "cache_unwritable"
    assert str(store.cache_dir / "uses") in caught.value.message
