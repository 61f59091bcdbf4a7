"""SHA-256 digests of files, and a memory of which files were found to match theirs.

Hashing a large image before every use would cost more than starting the VM. A file whose identity, size and times
are those it had when it was last hashed has not been written since (the kernel sets ctime, users cannot), so its
digest still holds; anything else is hashed again.
"""

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FileStamp:
    """What changes whenever a file is written or replaced (times in nanoseconds)."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @staticmethod
    def of(fd: int) -> "FileStamp":
        stat = os.fstat(fd)
        return FileStamp(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def matches(path: Path, digest: str, memory: Path) -> bool:
    """Whether the file's SHA-256 is `digest`; `memory` is a small file that remembers a match between calls.

    A memory that is missing, unreadable or of another file is no error: the file is hashed. Raises `OSError` when the
    file itself cannot be read.
    """
    with path.open("rb") as file:
        stamp = FileStamp.of(file.fileno())
        if _remembered(memory) == (digest, stamp):
            return True
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
            return False
        if FileStamp.of(file.fileno()) == stamp:
            _remember(memory, digest, stamp)
        return True


def _remembered(memory: Path) -> tuple[str, FileStamp] | None:
    try:
        record = json.loads(memory.read_text())
        return record["digest"], FileStamp(**record["stamp"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(memory: Path, digest: str, stamp: FileStamp) -> None:
    record = {"digest": digest, "stamp": vars(stamp)}
    temporary = memory.with_name(f".{memory.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(record))
        temporary.replace(memory)
    except OSError:
        # A read-only or full disk costs a hash next time, nothing else.
        with contextlib.suppress(OSError):
            temporary.unlink()
