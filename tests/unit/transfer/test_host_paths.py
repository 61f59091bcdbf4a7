import os
import socket
from pathlib import Path

import pytest

from pyro_mcp.errors import InvalidRequest, NotFound
from pyro_mcp.transfer import host_paths


def test_what_is_below_a_root_is_allowed_also_what_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "root/sub").mkdir(parents=True)
    assert host_paths.allowed(tmp_path / "root", [tmp_path / "root"]) == tmp_path / "root"
    assert host_paths.allowed(str(tmp_path / "root/sub/../new"), ["/nowhere", tmp_path / "root"]).name == "new"


def test_links_are_resolved_before_the_roots_are_asked(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "alias").symlink_to("root")
    (tmp_path / "root/inside").symlink_to("there")
    (tmp_path / "root/outside").symlink_to("../other")
    (tmp_path / "root/dangling").symlink_to("../other/not-yet")
    assert host_paths.allowed(tmp_path / "alias/x", [tmp_path / "root"]) == tmp_path / "root/x"
    assert host_paths.allowed(tmp_path / "root/inside", [tmp_path / "alias"]) == tmp_path / "root/there"
    for path in ("root/outside", "root/outside/x", "root/dangling", "root/../other", "root-2", ".", "alias/../other"):
        with pytest.raises(InvalidRequest) as refused:
            host_paths.allowed(f"{tmp_path}/{path}", [tmp_path / "root"])
        assert refused.value.code == "path_not_allowed"
        assert "--allow-path" in (refused.value.hint or "")


@pytest.mark.parametrize("path", ["relative", "", "/a\0b"])
def test_only_absolute_paths_are_allowed(path: str) -> None:
    with pytest.raises(InvalidRequest, match="absolute"):
        host_paths.allowed(path, ["/"])


def test_what_was_allowed_opens(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_text("x")
    fd = host_paths.open_beneath(f"{tmp_path}//d/./f")
    assert os.read(fd, 9) == b"x"
    os.close(fd)
    os.close(host_paths.open_folder("/"))
    os.close(host_paths.open_folder(tmp_path / "d", os.O_PATH))


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("d/link/f", "path_is_link"),
        ("d/loop", "path_is_link"),
        ("d/dangling", "path_is_link"),
        ("missing/f", "path_not_found"),
        ("d/missing", "path_not_found"),
        ("d/f/below", "not_a_directory"),
        ("d/f/../f", "bad_path"),
        ("d/" + "n" * 300, "bad_path"),
        ("d/socket", "path_unsuitable"),
    ],
)
def test_nothing_else_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, code: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").touch()
    (tmp_path / "d/link").symlink_to(".")
    (tmp_path / "d/loop").symlink_to("loop")
    (tmp_path / "d/dangling").symlink_to("nothing")
    monkeypatch.chdir(tmp_path / "d")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        with pytest.raises((InvalidRequest, NotFound)) as refused:
            host_paths.open_beneath(tmp_path / path)
    assert refused.value.code == code


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(InvalidRequest) as refused:
        host_paths.open_folder(tmp_path / "f")
    assert refused.value.code == "not_a_directory"


def test_a_fifo_is_opened_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    os.close(host_paths.open_beneath(tmp_path / "fifo"))
