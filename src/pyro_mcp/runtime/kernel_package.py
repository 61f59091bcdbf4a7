"""Fetching the kernel from Debian, and making of it what the bundle needs.

A prepared kernel is a folder:

    kernel.json           release and version, and the SHA-256 over all the rest
    vmlinux               the ELF kernel
    modules.sqfs          all of its modules
    boot/order, boot/*    the modules that boot needs
    copyright, licences/  what the package says, and the licences that it refers to
"""

import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from pyro_mcp import apt, digests
from pyro_mcp.errors import SourceFailed
from pyro_mcp.runtime import cache, kernel, modules
from pyro_mcp.runtime.kernel import Banner
from pyro_mcp.runtime.sources import KernelSource
from pyro_mcp.runtime.tool import run_tool

# Packages are unpacked and not installed, so nobody has run depmod. The kernel's dependencies bring one.
_DEPMOD = 'chroot "$1" /sbin/depmod "$(ls "$1/lib/modules")"'
_LICENCES = PurePosixPath("usr/share/common-licenses")


@dataclass(frozen=True)
class Prepared:
    """Which kernel it is (see `kernel.Banner`), and a digest that changes with any of the folder's files."""

    release: str
    version: str
    digest: str


async def prepare(source: KernelSource, folder: Path, say: Callable[[str], None]) -> None:
    """Fill an empty `folder` with a prepared kernel, telling `say` of each phase.

    Signatures are checked by apt against Debian's archive keys. Raises `HostUnfit` or `SourceFailed`.
    """
    say("fetch-kernel")
    package = folder / "package.tar"
    await _fetch(source, package)
    say("unpack-kernel")
    tree = folder / "package"
    unpack(package, tree, source.licences)
    package.unlink()
    found = describe(tree)
    await kernel.extract(_only(tree, "boot/vmlinuz-*"), folder / "vmlinux")
    say("pack-modules")
    await modules.pack(tree / "lib" / "modules", folder / "modules.sqfs")
    _keep_boot_modules(source, tree / "lib" / "modules" / found.release, folder / "boot")
    _keep_texts(tree, folder)
    shutil.rmtree(tree)
    made = Prepared(found.release, found.version, _digest(folder))
    (folder / "kernel.json").write_text(json.dumps(asdict(made)))


def prepared(folder: Path) -> Prepared:
    """What kernel a prepared folder holds."""
    return Prepared(**json.loads((folder / "kernel.json").read_text()))


def boot_order(folder: Path) -> tuple[str, ...]:
    """The file names of a prepared kernel's boot modules, in the order of loading."""
    return tuple((folder / "boot" / "order").read_text().split())


async def _fetch(source: KernelSource, package: Path) -> None:
    debian = await apt.debian_sources(source.suite)
    await run_tool(
        "mmdebstrap",
        "--variant=extract",
        # base-files has the texts of the licences.
        f"--include={source.package},base-files",
        f"--extract-hook={_DEPMOD}",
        *(f"--aptopt={option}" for option in debian.options),
        source.suite,
        str(package),
        *debian.entries,
        package="mmdebstrap",
        hint="check the network and apt's mirrors (apt-get update), then run it again",
    )


def unpack(package: Path, tree: Path, licences: tuple[str, ...]) -> None:
    """Unpack what is needed of the package into `tree`: kernel, modules and texts, with the same modes everywhere."""
    wanted_licences = {str(_LICENCES / name) for name in licences}
    try:
        with tarfile.open(package) as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                if member.isreg() and _wanted(path, wanted_licences):
                    _unpack_file(archive, member, path, tree)
    except tarfile.TarError as error:
        raise _bad(f"is damaged: {error}") from None
    for folder in tree.rglob("*/"):
        folder.chmod(0o755)


def _unpack_file(archive: tarfile.TarFile, member: tarfile.TarInfo, path: PurePosixPath, tree: Path) -> None:
    content = archive.extractfile(member)
    if path.is_absolute() or ".." in path.parts or content is None:
        raise _bad(f"has a file with a strange name: {member.name!r}")
    target = tree / path
    target.parent.mkdir(parents=True, exist_ok=True)
    with content, target.open("wb") as out:
        shutil.copyfileobj(content, out, 1 << 20)
    target.chmod(0o644)


def _wanted(path: PurePosixPath, licences: set[str]) -> bool:
    return (
        path.parts[:2] == ("lib", "modules")
        or path.match("boot/vmlinuz-*")
        or path.match("usr/share/doc/linux-image-*/copyright")
        or str(path) in licences
    )


def describe(tree: Path) -> Banner:
    """Which kernel was unpacked; raises `SourceFailed` when kernel and modules are not of one release."""
    found = kernel.banner(_only(tree, "boot/vmlinuz-*").read_bytes())
    if _only(tree, "lib/modules/*").name != found.release:
        raise _bad(f"has no modules for its kernel {found.release}")
    return found


def _keep_boot_modules(source: KernelSource, tree: Path, boot: Path) -> None:
    table = modules.dependencies((tree / "modules.dep").read_text())
    order = modules.load_order(source.boot_modules, table)
    boot.mkdir()
    for path in order:
        shutil.copyfile(tree / path, boot / PurePosixPath(path).name)
    (boot / "order").write_text("".join(f"{PurePosixPath(path).name}\n" for path in order))


def _keep_texts(tree: Path, folder: Path) -> None:
    shutil.copyfile(_only(tree, "usr/share/doc/linux-image-*/copyright"), folder / "copyright")
    shutil.copytree(tree / _LICENCES, folder / "licences")


def _digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return cache.key_of([(path.relative_to(folder).as_posix(), digests.sha256_of(path)) for path in files])


def _only(tree: Path, pattern: str) -> Path:
    found = list(tree.glob(pattern))
    if len(found) != 1:
        raise _bad(f"has {len(found)} files {pattern}, and there must be one")
    return found[0]


def _bad(what: str) -> SourceFailed:
    return SourceFailed(
        "bad_package", f"the kernel package {what}", "check which package runtime_sources/kernel.json names"
    )
