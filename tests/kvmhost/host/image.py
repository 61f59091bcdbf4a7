"""The test host's root file system: Debian 12 from the signed packages of the mirrors that this machine's apt uses."""

from pathlib import Path

from pyro_mcp import digests
from pyro_mcp.images import confine, debian
from pyro_mcp.images.catalog import Environment
from pyro_mcp.models import Progress
from pyro_mcp.runtime import cache
from tests.kvmhost.host.places import BUILT

_DEBIAN = Environment(
    name="kvmhost",
    description="the machine in which the tests of KVM run",
    suite="bookworm",
    packages=(
        "bubblewrap",
        "busybox-static",  # the initramfs is made of it
        "e2fsprogs",
        "git",
        "kmod",
        "mount",
        "procps",
        "python3",
        "squashfs-tools",
        "strace",
        "uidmap",
        "util-linux",
    ),
    build_bytes=600 << 20,
)


async def root_image() -> Path:
    """The image, a squashfs; built when there is none of these packages."""
    folder = BUILT / "image"
    key = cache.key_of(_DEBIAN.suite, _DEBIAN.packages, digests.sha256_of(Path(debian.__file__)))
    await cache.kept(folder, key, _build)
    return folder / "rootfs.sqfs"


async def _build(folder: Path) -> None:
    work = folder / "work"
    work.mkdir()
    built = await debian.source().build(_DEBIAN, work, _report)
    built.image.rename(folder / "rootfs.sqfs")
    (folder / "packages").write_text("".join(f"{line}\n" for line in built.contents))
    await confine.remove_tree(work)


def _report(progress: Progress) -> None:
    if progress.done is None:
        print(f"[kvmhost] image: {progress.phase} {progress.detail}", flush=True)
