"""Engines with fake guests; disks and images that no program has to make."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pyro_mcp.images import disk
from pyro_mcp.vmm.template import Template
from pyro_mcp.workspace import boot
from pyro_mcp.workspace.engine import Workspaces
from tests.support.descriptors import none_left, opened
from tests.support.fake_kept import Engine, fake_engine
from tests.support.fake_machine import Boots, fake_host
from tests.support.fake_templates import Place

SMALL_DISK_MIB = 16


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with fake_engine(tmp_path) as made:
        yield made


@pytest.fixture
async def workspaces(engine: Engine) -> AsyncIterator[Workspaces]:
    async with engine.open() as opened:
        yield opened


@pytest.fixture
def disks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The descriptors of the disks that machines got; each must be closed when its machine is gone."""
    given: list[int] = []

    async def fresh(_cache_dir: Path, _template: Template | None) -> int:
        given.append(os.memfd_create("disk"))
        return given[-1]

    monkeypatch.setattr(boot, "_fresh_disk", fresh)
    yield given
    assert not [fd for fd, name in opened().items() if "memfd:disk" in name]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An environment's image."""
    path = tmp_path / "rootfs.sqfs"
    path.touch()
    return path


@pytest.fixture
def place(tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A host with templates, whose disks are small; no descriptor may be left."""
    open_blank = disk.open_blank

    async def open_small(cache_dir: Path, _size_bytes: int, *, journal: bool) -> int:
        return await open_blank(cache_dir, SMALL_DISK_MIB << 20, journal=journal)

    monkeypatch.setattr(disk, "open_blank", open_small)
    with none_left():
        boots = Boots()
        yield Place(tmp_path / "templates", fake_host(tmp_path, boots, slots=1), boots, image)
