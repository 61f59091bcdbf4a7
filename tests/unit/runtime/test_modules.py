import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from pyro_mcp.errors import HostUnfit, SourceFailed
from pyro_mcp.runtime import modules

MODULES_DEP = """\
kernel/lib/ring.ko:
kernel/drivers/bus.ko: kernel/lib/ring.ko
kernel/drivers/virtio-disk.ko: kernel/drivers/bus.ko kernel/lib/ring.ko
kernel/fs/overlay.ko:
"""


def test_dependencies_come_first_and_nothing_comes_twice() -> None:
    order = modules.load_order(["overlay", "virtio-disk", "bus"], modules.dependencies(MODULES_DEP))
    assert order == (
        "kernel/fs/overlay.ko",
        "kernel/lib/ring.ko",
        "kernel/drivers/bus.ko",
        "kernel/drivers/virtio-disk.ko",
    )


def test_a_module_that_the_kernel_lacks_is_named() -> None:
    with pytest.raises(SourceFailed, match="'floppy'") as caught:
        modules.load_order(["floppy"], modules.dependencies(MODULES_DEP))
    assert caught.value.code == "no_boot_module"
    assert caught.value.hint


def test_two_packings_of_equal_folders_are_equal(tmp_path: Path) -> None:
    for index, name in enumerate(("one", "two")):
        tree = tmp_path / name / "6.1" / "kernel"
        tree.mkdir(parents=True)
        (tree / "b.ko").write_bytes(b"module" * 1000)
        (tree / "a.ko").write_bytes(b"another" * 1000)
        os.utime(tree / "a.ko", (index, index))
        asyncio.run(modules.pack(tmp_path / name, tmp_path / f"{name}.sqfs"))
    assert (tmp_path / "one.sqfs").read_bytes() == (tmp_path / "two.sqfs").read_bytes()
    listing = subprocess.run(
        ["unsquashfs", "-lls", "-d", "", str(tmp_path / "one.sqfs")], capture_output=True, check=True, text=True
    ).stdout
    assert [line.split()[-1] for line in listing.splitlines() if line.startswith("-")] == [
        "/6.1/kernel/a.ko",
        "/6.1/kernel/b.ko",
    ]
    assert {line.split()[1] for line in listing.splitlines() if line} == {"root/root"}


async def test_a_missing_program_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostUnfit, match="mksquashfs") as caught:
        await modules.pack(tmp_path, tmp_path / "image")
    assert caught.value.hint == "apt-get install squashfs-tools"
