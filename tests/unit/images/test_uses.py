"""Images that workspaces need stay, for as long as the workspaces do."""

from pathlib import Path

from pyro_mcp.images import uses
from pyro_mcp.images.prune import prune
from pyro_mcp.images.pull import pull
from pyro_mcp.images.store import Store, reference
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
