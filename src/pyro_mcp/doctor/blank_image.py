"""The smallest root file system: a squashfs with an empty root folder, for a guest that is only to answer.

The agent needs nothing of an image's userland, so a host can be proved before any environment is installed and before
the programs that build images are. Format: the kernel's Documentation/filesystems/squashfs.rst and fs/squashfs/
squashfs_fs.h.
"""

import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SUPERBLOCK = struct.Struct("<IIIIIHHHHHHQQQQQQQQ")
_FOLDER = struct.Struct("<HHHHIIIIHHI")
_MAGIC = 0x73717368
_VERSION = (4, 0)
_BLOCK_LOG = 17  # blocks of 128 KiB, the usual size; nothing here is that large
_ZLIB = 1  # what would be compressed with, if anything were
_NO_FRAGMENTS = 0x0010
_NONE = 0xFFFF_FFFF_FFFF_FFFF
_UNCOMPRESSED = 0x8000  # in a metadata block's length
_FOLDER_TYPE = 1
_EMPTY_FOLDER_SIZE = 3  # of `.` and `..`, which are not written down
_ALIGNMENT = 4096  # mkfs and the kernel want whole device blocks


def blank_squashfs() -> bytes:
    """The image."""
    inodes_at = _SUPERBLOCK.size
    folder = _FOLDER.pack(_FOLDER_TYPE, 0o755, 0, 0, 0, 1, 0, 2, _EMPTY_FOLDER_SIZE, 0, 2)
    inodes = _metadata(folder)
    folders_at = inodes_at + len(inodes)  # an empty table: it ends where it begins
    ids = _metadata(struct.pack("<I", 0))
    ids_at = folders_at + len(ids)  # the index of the ids' blocks, which lie just before it
    index = struct.pack("<Q", folders_at)
    end = ids_at + len(index)
    superblock = _SUPERBLOCK.pack(
        *(_MAGIC, 1, 0, 1 << _BLOCK_LOG, 0),  # one inode, no time, no fragment
        *(_ZLIB, _BLOCK_LOG, _NO_FRAGMENTS, 1, *_VERSION),  # one id: root's
        *(0, end, ids_at, _NONE, inodes_at, folders_at, _NONE, _NONE),  # no attributes, fragments, exports
    )
    image = superblock + inodes + ids + index
    return image.ljust(-(-len(image) // _ALIGNMENT) * _ALIGNMENT, b"\0")


@contextmanager
def blank_image() -> Iterator[Path]:
    """The image as a file that is there for as long as the block runs."""
    with tempfile.NamedTemporaryFile(prefix="pyro-blank-", suffix=".sqfs") as file:
        file.write(blank_squashfs())
        file.flush()
        # The VMM may run as another user, to whom the folder is closed but the file is shown.
        os.chmod(file.fileno(), 0o444)
        yield Path(file.name)


def _metadata(content: bytes) -> bytes:
    return struct.pack("<H", len(content) | _UNCOMPRESSED) + content
