"""What the test host boots from: the bundle's kernel, and an initramfs with busybox and the modules of that kernel."""

import shutil
from pathlib import Path, PurePosixPath

from pyro_mcp import digests
from pyro_mcp.runtime import cache, cpio, modules
from pyro_mcp.runtime.bundle import RuntimeBundle
from pyro_mcp.runtime.tool import run_tool
from tests.kvmhost.host.places import BUILT, INSIDE

_MODULES = ("virtio_mmio", "virtio_blk", "virtio_console", "virtio-rng", "overlay", "squashfs")
_BUSYBOX = ("bin/busybox", "usr/bin/busybox")  # before and after Debian merged the two
_FOLDERS = ("bin", "dev", "lower", "modules", "proc", "root", "scratch", "sys")
_NAME = "initramfs.cpio"


async def initramfs(root_image: Path, bundle: RuntimeBundle) -> Path:
    """The archive; made when it is not there, or not of these files."""
    folder = BUILT / "initramfs"
    inputs = (Path(__file__), INSIDE / "init", root_image, bundle.modules)
    key = cache.key_of([digests.sha256_of(path) for path in inputs])

    async def fill(staging: Path) -> None:
        root, modules_tree = staging / "root", staging / "modules"
        await _unsquash(root_image, root, *_BUSYBOX)
        await _unsquash(bundle.modules, modules_tree)
        (staging / _NAME).write_bytes(cpio.archive(_members(root, modules_tree)))
        for tree in (root, modules_tree):
            shutil.rmtree(tree)

    await cache.kept(folder, key, fill)
    return folder / _NAME


def _members(root: Path, modules_tree: Path) -> list[cpio.Member]:
    busybox = next(path for name in _BUSYBOX if (path := root / name).is_file())
    (release,) = modules_tree.iterdir()
    order = modules.load_order(_MODULES, modules.dependencies((release / "modules.dep").read_text()))
    return [
        cpio.file("init", (INSIDE / "init").read_bytes(), executable=True),
        *(cpio.folder(name) for name in _FOLDERS),
        cpio.character_device("dev/console", 5, 1),
        cpio.file("bin/busybox", busybox.read_bytes(), executable=True),
        # Numbered, so that a glob gives them in the order of loading.
        *(
            cpio.file(f"modules/{number:02}-{PurePosixPath(path).name}", (release / path).read_bytes())
            for number, path in enumerate(order)
        ),
    ]


async def _unsquash(image: Path, folder: Path, *wanted: str) -> None:
    await run_tool(
        "unsquashfs", "-no-progress", "-no-xattrs", "-quiet", "-dest", str(folder), str(image), *wanted,
        package="squashfs-tools", hint="check the space on the disk",
    )  # fmt: skip
