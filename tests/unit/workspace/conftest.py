"""Disks and images that no program has to make."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyro_mcp.workspace import boot


@pytest.fixture
def disks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The descriptors of the disks that machines got; each must be closed when its machine is gone."""
    given: list[int] = []

    async def fresh(_cache_dir: Path) -> int:
        given.append(os.memfd_create("disk"))
        return given[-1]

    monkeypatch.setattr(boot, "_fresh_disk", fresh)
    yield given
    held = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert not [name for name in held if "memfd:disk" in name]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An environment's image."""
    path = tmp_path / "rootfs.sqfs"
    path.touch()
    return path
