"""Parts of a bundle that are kept between builds, and replacing a folder in one step."""

import ctypes
import hashlib
import json
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # renameat2(2)
_libc = ctypes.CDLL(None, use_errno=True)


def key_of(*inputs: object) -> str:
    """A SHA-256 of JSON-ready inputs: equal inputs, equal key."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


async def kept(folder: Path, key: str, fill: Callable[[Path], Awaitable[None]], *, again: bool = False) -> None:
    """See that `folder` is as `fill` fills it for this key: nothing is done if it is, unless `again` asks for it.

    The folder appears whole or not at all, so an interrupted build leaves nothing that the next would take for good.
    """
    stamp = folder.with_name(f"{folder.name}.key")
    if not again and _is_filled(folder, stamp, key):
        return
    staging = empty_sibling(folder)
    try:
        await fill(staging)
        _put(staging, folder, stamp, key)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _is_filled(folder: Path, stamp: Path, key: str) -> bool:
    return folder.is_dir() and stamp.is_file() and stamp.read_text() == key


def _put(staging: Path, folder: Path, stamp: Path, key: str) -> None:
    # In this order a build that is killed in between leaves a folder without a stamp, which is made again.
    stamp.unlink(missing_ok=True)
    replace(staging, folder)
    stamp.write_text(key)


def empty_sibling(folder: Path) -> Path:
    """A new empty folder next to `folder`, so that renaming stays within one file system."""
    staging = folder.with_name(f".{folder.name}.staging")
    # Left by a build that was killed; builds exclude each other, so nobody is using it.
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    staging.chmod(0o755)
    return staging


def replace(new: Path, target: Path) -> None:
    """Put the folder `new` in place of `target`, whose old content is then in `new`; there is no moment without either.

    Raises `OSError`.
    """
    try:
        new.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        if _libc.renameat2(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(target), _RENAME_EXCHANGE) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(target)) from None
