"""Turns an unpacked root file system into a read-only image: squashfs with lz4.

lz4 because guests without KVM decompress by emulation: zstd images are a third smaller and several times slower there.
"""

from pathlib import Path

from pyro_mcp.errors import HostUnfit, InternalError
from pyro_mcp.images import confine

# The guest mounts file systems of its own over these; what a build left in them is of no use to it.
_EMPTIED = ("dev/*", "proc/*", "sys/*", "tmp/*")
NO_SPACE_WORDS = "No space left on device"


async def squash(confinement: confine.Confinement, tree: Path, image: Path, epoch: int) -> None:
    """Write `tree` to the squashfs file `image`; no time in it is later than `epoch` (seconds since 1970).

    Owners are as the confinement sees them. Raises `HostUnfit` for a missing program or a full disk.
    """
    argv = ["mksquashfs", str(tree), str(image), "-comp", "lz4", "-noappend", "-no-progress", "-wildcards"]
    env = confine.environment(SOURCE_DATE_EPOCH=str(epoch))
    try:
        ended = await confine.run(confinement, [*argv, "-e", *_EMPTIED], env=env)
    except FileNotFoundError:
        raise missing_program("mksquashfs", "squashfs-tools") from None
    words = "\n".join(ended.lines)
    # mksquashfs 4.5 ends with 0 after some failed writes, so its words count too.
    if NO_SPACE_WORDS in words:
        raise no_disk_space("the disk filled up while the image was written")
    if ended.exit_code != 0:
        if "failed to execute mksquashfs" in words:
            raise missing_program("mksquashfs", "squashfs-tools")
        raise InternalError(
            "squash_failed", f"mksquashfs ended with code {ended.exit_code}: {' '.join(ended.lines[-2:])}"
        )


def missing_program(program: str, package: str) -> HostUnfit:
    """The error for a program that this host lacks."""
    return HostUnfit("missing_program", f"there is no {program} on this machine", f"sudo apt-get install {package}")


def no_disk_space(what: str) -> HostUnfit:
    """The error for a full disk."""
    return HostUnfit("no_disk_space", what, "free some space (pyro env prune), or set PYRO_CACHE_DIR to another disk")
