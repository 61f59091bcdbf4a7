"""How a VMM gets at /dev/kvm, which root's VMMs are not root for."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

DEVICE = Path("/dev/kvm")
_NODE = "kvm"


@dataclass(frozen=True)
class KvmAccess:
    """`node` is the device's file on the host, `device` where a VMM looks for it, and `group` one it must be in."""

    node: Path = DEVICE
    device: Path = DEVICE
    group: int | None = None


def access_for(user: int | None, folder: Path) -> KvmAccess:
    """The access of a VMM that runs as `user` (None: as we do); `folder` is its own.

    Where the device is for root alone, the VMM gets a node of its own in its folder, as it would from Firecracker's
    jailer. Raises `OSError` where root may make none, or it could not be opened.
    """
    if user is None:
        return KvmAccess()
    status = DEVICE.stat()
    if _may(status.st_mode, stat.S_IROTH | stat.S_IWOTH):
        return KvmAccess()
    if _may(status.st_mode, stat.S_IRGRP | stat.S_IWGRP) and status.st_gid != 0:
        return KvmAccess(group=status.st_gid)
    node = folder / _NODE
    os.mknod(node, stat.S_IFCHR | 0o600, status.st_rdev)
    os.close(os.open(node, os.O_RDWR | os.O_CLOEXEC))  # refused on a file system that is mounted without devices
    os.chown(node, user, user)
    return KvmAccess(node)


def _may(mode: int, bits: int) -> bool:
    return mode & bits == bits
