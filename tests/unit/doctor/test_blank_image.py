"""The blank image read by the tools that read all squashfs images; that the kernel mounts it is shown in tests/vm."""

import stat
import subprocess
from pathlib import Path

from pyro_mcp.doctor.blank_image import blank_image, blank_squashfs


def test_it_holds_an_empty_folder_of_roots(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(blank_squashfs())
    listing = subprocess.run(["unsquashfs", "-lln", tmp_path / "image"], capture_output=True, text=True, check=True)
    [line] = [line for line in listing.stdout.splitlines() if "squashfs-root" in line]
    assert line.startswith("drwxr-xr-x 0/0")


def test_it_fills_whole_blocks() -> None:
    assert len(blank_squashfs()) == 4096


def test_it_is_a_file_that_anybody_may_read_and_nobody_write_for_as_long_as_it_is_wanted() -> None:
    with blank_image() as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o444
        assert path.read_bytes() == blank_squashfs()
    assert not path.exists()
