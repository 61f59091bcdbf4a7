"""What the test host finds in /opt/pyro: a virtual environment with the built wheel and the locked dependencies.

pip is slow in an emulated machine, so it unpacks the wheels here.
"""

import os
import shutil
import sys
from pathlib import Path

from pyro_mcp import digests
from pyro_mcp.runtime import cache
from pyro_mcp.runtime.tool import run_tool
from tests.kvmhost.host.places import BUILT, CHECKOUT, LOCK

INSTALLED_IN = "/opt/pyro"
# The test host is Debian 12, whatever this machine is.
_VERSION = "3.11"
_PACKAGES = f"lib/python{_VERSION}/site-packages"
_ABIS = ("cp311", "abi3", "none")
_PLATFORMS = ("_2_34", "_2_28", "_2_17", "2014", "_2_12", "2010", "_2_5", "1")
_TARGET = (
    *("--only-binary=:all:", "--implementation", "cp", "--python-version", _VERSION),
    *(word for abi in _ABIS for word in ("--abi", abi)),
    *(word for name in _PLATFORMS for word in ("--platform", f"manylinux{name}_x86_64")),
)


async def software_image() -> Path:
    """The image, a squashfs; made when there is none of this wheel and these dependencies."""
    wheel = _the_wheel()
    dependencies = BUILT / "dependencies"
    code = digests.sha256_of(Path(__file__))
    await cache.kept(dependencies, cache.key_of(code, digests.sha256_of(LOCK)), _install_dependencies)
    folder = BUILT / "software"

    async def fill(staging: Path) -> None:
        tree = staging / "tree"
        shutil.copytree(dependencies, tree / _PACKAGES, symlinks=True, copy_function=os.link)
        await _install_wheel(wheel, staging / "wheel", tree)
        await _squash(tree, staging / "software.sqfs")
        shutil.rmtree(tree)

    await cache.kept(folder, cache.key_of(code, digests.sha256_of(LOCK), digests.sha256_of(wheel)), fill)
    return folder / "software.sqfs"


def _the_wheel() -> Path:
    wheels = list((CHECKOUT / "dist").glob("pyro_mcp-*.whl"))
    if len(wheels) != 1:
        raise SystemExit(f"there must be one wheel in dist/, and there are {len(wheels)}: make dist")
    return wheels[0]


async def _install_dependencies(folder: Path) -> None:
    await _pip("--target", str(folder), "--require-hashes", "-r", str(LOCK))
    shutil.rmtree(folder / "bin")  # their scripts name this machine's Python
    await _compile(folder)


async def _install_wheel(wheel: Path, folder: Path, tree: Path) -> None:
    """Unpack the wheel and make of `tree`, which holds the dependencies, a virtual environment."""
    await _pip("--target", str(folder), "--no-deps", "--no-index", str(wheel))
    await _compile(folder)
    _lay_out(folder, tree)


def _lay_out(folder: Path, tree: Path) -> None:
    (tree / "bin").mkdir()
    (tree / "bin" / "python").symlink_to("/usr/bin/python3")
    _, _, script = (folder / "bin" / "pyro").read_text().partition("\n")
    program = tree / "bin" / "pyro"
    program.write_text(f"#!{INSTALLED_IN}/bin/python\n{script}")
    program.chmod(0o755)
    shutil.rmtree(folder / "bin")
    for path in folder.iterdir():
        path.rename(tree / _PACKAGES / path.name)
    (tree / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {_VERSION}\n")


async def _pip(*words: str) -> None:
    await run_tool(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"),
        *_TARGET,
        *words,
        package="python3-pip",
        hint="check the network and pip's index",
    )


async def _compile(folder: Path) -> None:
    """Write bytecode, which the test host uses unseen: it cannot write any there, and takes long to make it."""
    if sys.version_info[:2] != (3, 11):
        return  # it would be of no use there, and all works without
    await run_tool(
        *(sys.executable, "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash"),
        *("-s", str(folder), "-p", f"{INSTALLED_IN}/{_PACKAGES}", str(folder)),
        package="python3",
        hint="check the space on the disk",
    )


async def _squash(tree: Path, image: Path) -> None:
    await run_tool(
        *("mksquashfs", str(tree), str(image), "-comp", "lz4", "-all-root", "-no-xattrs", "-noappend"),
        *("-no-progress", "-quiet"),
        package="squashfs-tools",
        hint="check the space on the disk",
    )
