import os
import subprocess
from pathlib import Path

import pytest

from pyro_mcp.errors import HostUnfit, InternalError
from pyro_mcp.images import confine, rootfs

EPOCH = 1_700_000_000


def tree_in(folder: Path) -> Path:
    tree = folder / "tree"
    for name in ("etc", "dev", "proc", "sys", "tmp", "usr/bin"):
        (tree / name).mkdir(parents=True)
    (tree / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (tree / "dev/null").touch()
    (tree / "tmp/left").touch()
    (tree / "usr/bin/tool").write_text("#!/bin/sh\n")
    (tree / "usr/bin/tool").chmod(0o4755)
    (tree / "usr/bin/link").symlink_to("tool")
    return tree


def listed(image: Path) -> dict[str, tuple[str, str]]:
    """The image's entries: path to (mode, owner)."""
    output = subprocess.run(["unsquashfs", "-lln", image], check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in output.splitlines() if "squashfs-root" in line]
    return {row[5].removeprefix("squashfs-root"): (row[0], row[1]) for row in rows}


async def test_an_image_has_the_tree_without_what_the_guest_mounts_over(tmp_path: Path) -> None:
    image = tmp_path / "image"
    await rootfs.squash(await confine.find(), tree_in(tmp_path), image, EPOCH)
    found = listed(image)
    assert found[""] == ("drwxr-xr-x", "0/0")
    assert found["/usr/bin/tool"] == ("-rwsr-xr-x", "0/0")
    assert found["/usr/bin/link"][0].startswith("l")
    assert {"/dev", "/proc", "/sys", "/tmp"} < set(found)
    assert not {"/dev/null", "/tmp/left"} & set(found)


async def test_the_same_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    confinement, images = await confine.find(), []
    for name in ("one", "two"):
        folder = tmp_path / name
        os.mkdir(folder)
        await rootfs.squash(confinement, tree_in(folder), folder / "image", EPOCH)
        images.append(content(folder / "image"))
    assert images[0] == images[1]


def content(file: Path) -> bytes:
    return file.read_bytes()


async def test_a_full_disk_is_told_apart(tmp_path: Path, small_file_system: Path) -> None:
    tree = tree_in(tmp_path)
    add_noise(tree / "noise")
    with pytest.raises(HostUnfit) as caught:
        await rootfs.squash(confine.Confinement(()), tree, small_file_system / "image", EPOCH)
    assert caught.value.code == "no_disk_space"


def add_noise(file: Path) -> None:
    file.write_bytes(os.urandom(4 * 1024 * 1024))


async def test_other_failures_are_ours(tmp_path: Path) -> None:
    with pytest.raises(InternalError) as caught:
        await rootfs.squash(confine.Confinement(()), tree_in(tmp_path), tmp_path / "none" / "image", EPOCH)
    assert caught.value.code == "squash_failed"
