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
    for source, path in (
        (parts.kernel / "vmlinux", manifest.KERNEL),
        (parts.kernel / "modules.sqfs", manifest.MODULES),
        (parts.firecracker, manifest.FIRECRACKER),
        (parts.jailer, manifest.JAILER),
    ):
        shutil.copyfile(source, folder / path)
    (folder / manifest.INITRAMFS).write_bytes(_initramfs(parts))
    (folder / manifest.NOTICE).write_text(_notice(parts))
    files = tuple(_describe(folder, path) for path in manifest.PATHS)
    (folder / manifest.NAME).write_bytes(manifest.render(parts.components, files))
    _set_modes(folder)


def _set_modes(folder: Path) -> None:
    """Whoever may reach the folder may use what is in it, whatever the builder's umask is."""
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)


def _initramfs(parts: Parts) -> bytes:
    order = kernel_package.boot_order(parts.kernel)
    modules = {name: (parts.kernel / "boot" / name).read_bytes() for name in order}
    return initramfs(parts.agent.read_bytes(), order, modules)


def _notice(parts: Parts) -> str:
    licences = {path.name: path.read_text() for path in (parts.kernel / "licences").iterdir()}
    return notice(parts.components, parts.crates, (parts.kernel / "copyright").read_text(), licences)


def _describe(folder: Path, path: str) -> BundledFile:
    return BundledFile(path, digests.sha256_of(folder / path), (folder / path).stat().st_size)
