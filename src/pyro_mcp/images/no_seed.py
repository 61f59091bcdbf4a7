"""What is on the seed's device of a machine that has no seed."""

import os
import tempfile
from pathlib import Path

from pyro_mcp.errors import HostUnfit

# Guests learn the device's size when they boot, and one that becomes a machine with a seed has booted without. So this
# is as large as no seed is; it takes no space.
_BYTES = 256 << 30


def path(cache_dir: Path) -> Path:
    """A file of zeroes, made if need be. Raises `HostUnfit` where it cannot be."""
    file = cache_dir / "no-seed"
    try:
        if not file.exists():
            _make(file)
    except OSError as error:
        what = f"cannot make {file}, which is sparse and has {_BYTES >> 30} GiB: {error.strerror or error}"
        raise HostUnfit("cache_unwritable", what, "set PYRO_CACHE_DIR to a folder of a Linux file system") from error
    return file


def placeholder(path: Path) -> int:
    """A new file like that at `path`, for everybody to read, in whose place a seed is to come.

    Returns its descriptor for writing, which is the only one that there will be. Raises `OSError`.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    try:
        os.fchmod(fd, 0o444)
        os.ftruncate(fd, _BYTES)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _make(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    made, name = tempfile.mkstemp(dir=file.parent, prefix="no-seed-")
    try:
        os.ftruncate(made, _BYTES)
        os.fchmod(made, 0o444)
        Path(name).rename(file)
    except BaseException:
        Path(name).unlink()
        raise
    finally:
        os.close(made)
