from pathlib import Path

import pytest

from pyro_mcp.runtime import cache


class Filler:
    """Fills folders with a file that says how often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / "call").write_text(str(self.calls))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


async def test_a_folder_is_filled_once_for_a_key(tmp_path: Path) -> None:
    fill = Filler()
    folder = tmp_path / "deep" / "part"
    await cache.kept(folder, "key", fill)
    await cache.kept(folder, "key", fill)
    assert (folder / "call").read_text() == "1"
    await cache.kept(folder, "another key", fill)
    assert (folder / "call").read_text() == "2"
    await cache.kept(folder, "another key", fill, again=True)
    assert (folder / "call").read_text() == "3"


async def test_a_fill_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    fill = Filler()
    folder = tmp_path / "part"
    await cache.kept(folder, "key", fill)

    async def fail(staging: Path) -> None:
        (staging / "half").write_text("")
        raise OSError("no more disk")

    with pytest.raises(OSError, match="no more disk"):
        await cache.kept(folder, "new key", fail)
    await cache.kept(folder, "key", fill)
    assert fill.calls == 1
    assert names(tmp_path) == ["call", "part", "part.key"]


async def test_what_a_killed_build_left_is_not_taken_over(tmp_path: Path) -> None:
    folder = tmp_path / "part"
    cache.empty_sibling(folder).joinpath("half").write_text("")
    folder.mkdir()
    await cache.kept(folder, "key", Filler())
    assert names(folder) == ["call"]


def test_replacing_leaves_the_old_content_in_the_new_ones_place(tmp_path: Path) -> None:
    new, target = tmp_path / "new", tmp_path / "target"
    for folder in (new, target):
        folder.mkdir()
        (folder / folder.name).write_text("")
    cache.replace(new, target)
    assert (target / "new").exists()
    assert (new / "target").exists()


def test_replacing_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "target").write_text("a file")
    with pytest.raises(OSError, match="target"):
        cache.replace(tmp_path / "new", tmp_path / "target")
    assert (tmp_path / "target").read_text() == "a file"
