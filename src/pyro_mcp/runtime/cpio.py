"""Writing cpio archives in the "newc" format, the one that the kernel unpacks as an initramfs.

Format: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst. Equal members give equal bytes: inode
numbers count up, every owner is root and every time is 0.
"""

import stat
from collections.abc import Iterable
from dataclasses import dataclass

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"
_ALIGNMENT = 4
# GNU cpio and bsdtar expect whole blocks; the kernel does not mind.
_BLOCK = 512


@dataclass(frozen=True)
class Member:
    """One member: `mode` with its type bits, as in stat(2); `device` is (major, minor) of a device node."""

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def folder(path: str) -> Member:
    return Member(path, stat.S_IFDIR | 0o755)


def file(path: str, data: bytes, *, executable: bool = False) -> Member:
    return Member(path, stat.S_IFREG | (0o755 if executable else 0o644), data)


def character_device(path: str, major: int, minor: int) -> Member:
    return Member(path, stat.S_IFCHR | 0o600, device=(major, minor))


def archive(members: Iterable[Member]) -> bytes:
    """The archive of these members, sorted by path, so that a folder comes before what is in it."""
    out = bytearray()
    ordered = sorted(members, key=lambda member: member.path.split("/"))
    for inode, member in enumerate(ordered, start=1):
        _append(out, inode, member)
    _append(out, 0, Member(_TRAILER, 0))
    _pad(out, _BLOCK)
    return bytes(out)


def _append(out: bytearray, inode: int, member: Member) -> None:
    name = member.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(member.mode) else 1
    # Inode, mode, owner, group, links, time, size, containing device, own device, length of the name, checksum.
    fields = (inode, member.mode, 0, 0, links, 0, len(member.data), 0, 0, *member.device, len(name), 0)
    out += _MAGIC + b"".join(b"%08X" % field for field in fields) + name
    _pad(out, _ALIGNMENT)
    out += member.data
    _pad(out, _ALIGNMENT)


def _pad(out: bytearray, alignment: int) -> None:
    out += bytes(-len(out) % alignment)
