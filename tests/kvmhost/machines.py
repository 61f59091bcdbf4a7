"""Machines for tests that drive a VMM by themselves, and who runs such tests."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.images import disk, store
from pyro_mcp.images.store import Store
from pyro_mcp.runtime.bundle import RuntimeBundle
from pyro_mcp.vmm.machine import MachineSpec
from tests.vm.pyro_command import PyroCommand

ROOT_AND_USER = pytest.mark.parametrize(
    "who", [pytest.param("root", marks=pytest.mark.kvmhost_root), pytest.param("user")]
)


@asynccontextmanager
async def machine(bundle: RuntimeBundle) -> AsyncIterator[MachineSpec]:
    """What a machine of debian:12 is made of, with a blank disk that has no name."""
    images = Store(Settings.from_environment(PyroCommand(Path("/")).environment).cache_dir)  # where it is installed
    with await store.open_verified(images, "debian:12") as image:
        blank = await disk.open_blank(images.cache_dir, 64 << 20)
        fd = await disk.clone(blank, images.cache_dir / "disks")
        try:
            yield MachineSpec(bundle.kernel, bundle.initramfs, bundle.modules, image.path, fd, 1, 256)
        finally:
            os.close(fd)
            os.close(blank)
