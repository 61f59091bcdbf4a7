"""A store of its own for each test, and disks that are soon full."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyro_mcp.images.store import Store

MIB = 1024 * 1024


@pytest.fixture
def store(tmp_path: Path) -> Store:
    prepared = Store(tmp_path / "cache")
    prepared.prepare()
    return prepared


@pytest.fixture
def small_file_system(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB, in a namespace of a process that goes away with it; needs no root."""
    folder = tmp_path / "small"
    folder.mkdir()
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    script = 'mount -t tmpfs -o size=2m tmpfs "$1" && echo mounted && read -r wait'
    with subprocess.Popen(
        ["unshare", "--mount", *as_root, "sh", "-c", script, "sh", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"mounted\n"
        yield Path(f"/proc/{holder.pid}/root{folder}")
        holder.kill()


def fill(disk: Path) -> None:
    """Leave no free block on it."""
    with (disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
    assert os.statvfs(disk).f_bfree == 0
