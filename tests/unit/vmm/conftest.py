"""Machines for drivers to start."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyro_mcp.process import Detached, wait_for_end
from pyro_mcp.process_watch import Watched
from pyro_mcp.vmm.machine import MachineSpec
from tests.support.descriptors import none_left


@pytest.fixture
def spec(tmp_path: Path) -> Iterator[MachineSpec]:
    """Its inputs are there, and its disk is a file like any other."""
    files = [tmp_path / name for name in ("vmlinux", "initramfs.cpio", "modules.sqfs", "rootfs.sqfs")]
    for file in files:
        file.write_text(file.name)
        file.chmod(0o444)
    disk = os.open(tmp_path / "disk.ext4", os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(disk, 1 << 20)
    kernel, initramfs, modules, image = files
    yield MachineSpec(kernel, initramfs, modules, image, disk, vcpu_count=3, mem_mib=768)
    os.close(disk)


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    """Where machines that are thrown away have their folders; nothing may be left in it."""
    path = tmp_path / "run"
    with none_left():
        yield path
    assert not path.exists() or list(path.iterdir()) == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A kept machine's own."""
    path = tmp_path / "kept"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[list[Detached]]:
    """The machines that were started; each is ended with the test."""
    started: list[Detached] = []
    yield started
    for process in started:
        found = Watched.find(process)
        if found is not None:
            found.kill()
            found.close()
        assert wait_for_end(process.pid, 30)
