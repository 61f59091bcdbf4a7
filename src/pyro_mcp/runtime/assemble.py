"""Putting a bundle together from parts that are all on this disk."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from pyro_mcp import digests
from pyro_mcp.runtime import kernel_package, manifest
from pyro_mcp.runtime.crates import Crate
from pyro_mcp.runtime.initramfs import initramfs
from pyro_mcp.runtime.manifest import BundledFile, Component
from pyro_mcp.runtime.notice import notice


@dataclass(frozen=True)
class Parts:
    """What goes in: files, folders, and what is known of them. `kernel` is a folder from `kernel_package.prepare`."""

    agent: Path
    kernel: Path
    firecracker: Path
    jailer: Path
    components: tuple[Component, ...]
    crates: tuple[Crate, ...]


def assemble(parts: Parts, folder: Path) -> None:
    """Fill an empty folder with the bundle; equal parts give equal bytes, whenever and wherever."""
    (folder / "bin").mkdir()
    for source, path, mode in (
        (parts.kernel / "vmlinux", manifest.KERNEL, 0o644),
        (parts.kernel / "modules.sqfs", manifest.MODULES, 0o644),
        (parts.firecracker, manifest.FIRECRACKER, 0o755),
        (parts.jailer, manifest.JAILER, 0o755),
    ):
        shutil.copyfile(source, folder / path)
        (folder / path).chmod(mode)
    (folder / manifest.INITRAMFS).write_bytes(_initramfs(parts))
    (folder / manifest.NOTICE).write_text(_notice(parts))
    files = tuple(_describe(folder, path) for path in manifest.PATHS)
    (folder / manifest.NAME).write_bytes(manifest.render(parts.components, files))


def _initramfs(parts: Parts) -> bytes:
    order = kernel_package.boot_order(parts.kernel)
    modules = {name: (parts.kernel / "boot" / name).read_bytes() for name in order}
    return initramfs(parts.agent.read_bytes(), order, modules)


def _notice(parts: Parts) -> str:
    licences = {path.name: path.read_text() for path in (parts.kernel / "licences").iterdir()}
    return notice(parts.components, parts.crates, (parts.kernel / "copyright").read_text(), licences)


def _describe(folder: Path, path: str) -> BundledFile:
    return BundledFile(path, digests.sha256_of(folder / path), (folder / path).stat().st_size)
