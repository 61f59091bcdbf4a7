"""Paths of the host as they go to the daemon, which follows no link."""

from pathlib import Path

import pytest

from pyro_mcp.sdk.addresses import CheckedPath, output_path, source_path


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a link to it beside it."""
    folder = tmp_path.resolve()
    (folder / "real").mkdir()
    (folder / "link").symlink_to("real")
    monkeypatch.chdir(folder)
    return folder


def test_links_on_the_way_to_a_source_are_followed(real: Path) -> None:
    assert source_path("link") == source_path(Path("real")) == str(real / "real")
    assert source_path("link/x") == str(real / "real/x")


def test_links_on_the_way_to_an_output_are_followed_and_one_in_its_place_is_not(real: Path) -> None:
    assert output_path("link/out/") == str(real / "real/out")
    assert output_path("link") == str(real / "link")
    assert output_path(".") == output_path("link/..") == str(real)


def test_a_path_that_was_checked_is_used_as_it_stands(real: Path) -> None:
    checked = CheckedPath(real / "link/x")
    assert source_path(checked) is checked
    assert output_path(checked) is checked
