"""What building environments takes: programs, and a way to act as root inside a build."""

import shutil
from collections.abc import Mapping

from pyro_mcp.apt import KEYRING
from pyro_mcp.doctor.mending import apt_install
from pyro_mcp.doctor.report import Row, listed, passed, warning
from pyro_mcp.errors import HostUnfit
from pyro_mcp.images import confine

NAME = "build"
# Programs that a pull starts, and the Debian packages that they come in.
_PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "mksquashfs": "squashfs-tools",
    "mkfs.ext4": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "unshare": "util-linux",
    "apt-get": "apt",
}


async def examine() -> Row:
    missing = missing_programs(_PROGRAMS, confine.environment()["PATH"])
    if not KEYRING.exists():
        missing[str(KEYRING)] = "debian-archive-keyring"
    if missing:
        found = f"environments cannot be built here: {listed(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        return warning(NAME, found, apt_install(dict.fromkeys(missing.values())))
    try:
        confinement = await confine.find()
    except HostUnfit as error:
        return warning(NAME, f"environments cannot be built here: {error.message}", error.hint or "pull as root")
    return passed(NAME, f"environments can be built: {listed(_PROGRAMS)} are there, and {_manner(confinement)}")


def missing_programs(programs: Mapping[str, str], path: str) -> dict[str, str]:
    """Those programs that are nowhere on `path`, with their packages."""
    return {program: package for program, package in programs.items() if shutil.which(program, path=path) is None}


def _manner(confinement: confine.Confinement) -> str:
    if confinement.prefix:
        return "a build runs in namespaces of its own"
    return "a build runs without namespaces of its own, which this host does not allow"
