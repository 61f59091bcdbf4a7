"""The blank image read by the tools that read all squashfs images; that the kernel mounts it is shown in tests/vm."""

import fcntl
import os
import subprocess
from pathlib import Path

from pyro_mcp.doctor.blank_image import blank_squashfs, open_blank_image


def test_it_holds_an_empty_folder_of_roots(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(blank_squashfs())
    listing = subprocess.run(["unsquashfs", "-lln", tmp_path / "image"], capture_output=True, text=True, check=True)
    [line] = [line for line in listing.stdout.splitlines() if "squashfs-root" in line]
    assert line.startswith("drwxr-xr-x 0/0")


def test_it_fills_whole_blocks() -> None:
    assert len(blank_squashfs()) == 4096


def test_it_is_open_for_reading_alone() -> None:
    fd = open_blank_image()
    try:
        assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        assert os.read(fd, 5000) == blank_squashfs()
    finally:
        os.close(fd)
