"""Kernel modules: which of them boot needs and in which order, and the image of all of them."""

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from pyro_mcp.errors import SourceFailed
from pyro_mcp.runtime.tool import run_tool


def dependencies(modules_dep: str) -> dict[str, tuple[str, ...]]:
    """Read modules.dep(5): from each module's path to the paths that must be loaded before it, first one first."""
    table = {}
    for line in modules_dep.splitlines():
        module, _, needed = line.partition(":")
        # depmod writes the nearest dependency first, so loading goes from right to left.
        table[module] = tuple(reversed(needed.split()))
    return table


def load_order(wanted: Iterable[str], table: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The paths of the modules named in `wanted`, each once and after what it depends on.

    A name is a file's name without ".ko". Raises `SourceFailed` for a module that this kernel does not have.
    """
    by_name = {PurePosixPath(path).name.removesuffix(".ko"): path for path in table}
    order: dict[str, None] = {}
    for name in wanted:
        if name not in by_name:
            raise SourceFailed(
                "no_boot_module",
                f"the kernel package has no module {name!r}, which booting needs",
                "the list of boot modules is in runtime_sources/kernel.json",
            )
        path = by_name[name]
        order.update(dict.fromkeys((*table[path], path)))
    return tuple(order)


async def pack(folder: Path, image: Path) -> None:
    """Make a squashfs of a folder; equal content gives an equal image.

    lz4 in its slow mode packs a fifth better and unpacks as fast, which matters most in an emulated guest. Modules
    keep their signatures: they are packed as they are.
    """
    await run_tool(
        "mksquashfs", str(folder), str(image),
        "-comp", "lz4", "-Xhc", "-all-root", "-all-time", "0", "-mkfs-time", "0", "-no-xattrs", "-no-exports",
        "-noappend", "-no-progress", "-quiet",
        package="squashfs-tools", hint="check the space on the disk",
    )  # fmt: skip
