"""Turns an unpacked root file system into a read-only image: squashfs with lz4.

lz4 because guests without KVM decompress by emulation: zstd images are a third smaller and several times slower there.
"""

import os
import re
from pathlib import Path

from pyro_mcp.errors import HostUnfit, InternalError
from pyro_mcp.images import confine

# The guest mounts file systems of its own over these; what a build left in them is of no use to it.
_EMPTIED = ("dev", "proc", "sys", "tmp")
_NO_SPACE = re.compile("No space left on device|Disk quota exceeded|enough free space in")


async def squash(confinement: confine.Confinement, tree: Path, image: Path, epoch: int) -> None:
    """Write `tree` to the squashfs file `image`; no time in it is later than `epoch` (seconds since 1970).

    Owners are as the confinement sees them. Raises `HostUnfit` for a full disk.
    """
    for folder in (tree / name for name in _EMPTIED):
        # When a build last used them would be the only difference between two images of the same packages.
        os.utime(folder, (epoch, epoch))
    argv = ["mksquashfs", str(tree), str(image), "-comp", "lz4", "-noappend", "-no-progress", "-wildcards"]
    env = confine.environment(SOURCE_DATE_EPOCH=str(epoch))
    ended = await confine.run(confinement, [*argv, "-e", *(f"{name}/*" for name in _EMPTIED)], env=env)
    if ended.exit_code != 0:
        if says_no_space(ended.lines):
            raise no_disk_space("the disk filled up while the image was written")
        raise InternalError(
            "squash_failed", f"mksquashfs ended with code {ended.exit_code}: {' '.join(ended.lines[-2:])}"
        )


def says_no_space(lines: tuple[str, ...]) -> bool:
    """Whether a program's output (under LC_ALL=C.UTF-8) tells of a full disk."""
    return any(_NO_SPACE.search(line) for line in lines)


def missing_program(program: str, package: str) -> HostUnfit:
    """The error for a program that this host lacks."""
    return HostUnfit("missing_program", f"there is no {program} on this machine", f"sudo apt-get install {package}")


def no_disk_space(what: str) -> HostUnfit:
    """The error for a full disk."""
    return HostUnfit("no_disk_space", what, "free some space (pyro env prune), or set PYRO_CACHE_DIR to another disk")
