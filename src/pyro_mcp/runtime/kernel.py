"""Getting the ELF kernel out of the bzImage that distributions ship.

Format: the kernel's Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header".
"""

import re
import struct
from dataclasses import dataclass
from pathlib import Path

from pyro_mcp.errors import SourceFailed
from pyro_mcp.runtime import elf
from pyro_mcp.runtime.tool import run_tool

_SETUP_SECTORS = 0x1F1
_MAGIC = 0x202
_KERNEL_VERSION = 0x20E  # relative to 0x200
_PAYLOAD = struct.Struct("<II")
_PAYLOAD_AT = 0x248
_SECTOR = 512
_LZ4_LEGACY = b"\x02\x21\x4c\x18"
_DEBIAN_VERSION = re.compile(r"\bDebian (\S+)")


@dataclass(frozen=True)
class Banner:
    """What a kernel says of itself: `release` as `uname -r` prints it, `version` of its Debian source package."""

    release: str
    version: str


@dataclass(frozen=True)
class Payload:
    """The compressed kernel inside a bzImage, and the size in bytes that it unpacks to."""

    compressed: bytes
    size: int


def banner(image: bytes) -> Banner:
    """Read the version line in a bzImage's header, or raise `SourceFailed`."""
    _check_magic(image)
    (at,) = struct.unpack_from("<H", image, _KERNEL_VERSION)
    line = image[at + 0x200 :].partition(b"\0")[0][:512].decode(errors="replace")
    version = _DEBIAN_VERSION.search(line)
    if version is None:
        raise _bad(f"its version line names no Debian package: {line!r}")
    return Banner(line.split()[0], version[1])


def payload(image: bytes) -> Payload:
    """Find the LZ4-compressed kernel in a bzImage, or raise `SourceFailed`."""
    _check_magic(image)
    offset, length = _PAYLOAD.unpack_from(image, _PAYLOAD_AT)
    start = ((image[_SETUP_SECTORS] or 4) + 1) * _SECTOR + offset
    found = image[start : start + length]
    if len(found) != length or length < 8:
        raise _bad("it is cut short")
    if not found.startswith(_LZ4_LEGACY):
        raise _bad("it is not compressed with LZ4")
    # The build appends the size of what was compressed, and the LZ4 program would trip over it.
    return Payload(found[:-4], int.from_bytes(found[-4:], "little"))


async def extract(bzimage: Path, vmlinux: Path) -> None:
    """Write the ELF kernel of `bzimage` to `vmlinux`, or raise `SourceFailed`."""
    compressed = vmlinux.with_suffix(".lz4")
    size = _write_payload(bzimage, compressed)
    await run_tool(
        "lz4", "-d", "-q", "-f", str(compressed), str(vmlinux), package="lz4", hint="check the space on the disk"
    )
    _check_kernel(vmlinux, size)
    compressed.unlink()


def _write_payload(bzimage: Path, compressed: Path) -> int:
    found = payload(bzimage.read_bytes())
    compressed.write_bytes(found.compressed)
    return found.size


def _check_kernel(vmlinux: Path, size: int) -> None:
    image = vmlinux.read_bytes()
    if len(image) != size:
        raise _bad(f"it unpacks to {len(image)} bytes instead of {size}")
    if not elf.is_pvh_kernel(image):
        raise _bad("it is no x86-64 ELF kernel with a PVH entry point")


def _check_magic(image: bytes) -> None:
    if len(image) < _PAYLOAD_AT + _PAYLOAD.size or image[_MAGIC : _MAGIC + 4] != b"HdrS":
        raise _bad("it is no bzImage")


def _bad(what: str) -> SourceFailed:
    return SourceFailed("bad_kernel", f"the kernel image is not usable: {what}", "fetch it again: make runtime")
