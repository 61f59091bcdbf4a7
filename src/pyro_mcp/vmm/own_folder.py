"""The folder of a VMM, and to whom it belongs."""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def own_folder(run_dir: Path) -> Iterator[Path]:
    """An empty folder below `run_dir` that is gone with all in it after the block. Raises `OSError`.

    It is locked meanwhile, so that others can tell it from one whose owner was killed.
    """
    run_dir.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    run_dir.mkdir(mode=0o700, exist_ok=True)
    folder = run_dir / secrets.token_hex(8)
    with _locked(run_dir):  # until it is locked itself it looks like one that nobody owns
        folder.mkdir(mode=0o700)
        lock = _open(folder)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_leftovers(run_dir: Path) -> None:
    """Remove the folders below `run_dir` whose owners were killed."""
    if not run_dir.is_dir():
        return
    with _locked(run_dir):
        for folder in run_dir.iterdir():
            with suppress(OSError), _locked(folder, fcntl.LOCK_NB):  # in use, or not one of ours
                shutil.rmtree(folder, ignore_errors=True)


def hand_over(user: int, folder: Path, *fds: int) -> None:
    """Make a VMM's user the owner of its folder with all in it, and of the files behind these descriptors."""
    for fd in fds:
        os.fchown(fd, user, user)
    for path in (folder, *folder.iterdir()):
        os.chown(path, user, user, follow_symlinks=False)


@contextmanager
def _locked(folder: Path, flags: int = 0) -> Iterator[None]:
    fd = _open(folder)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | flags)
        yield
    finally:
        os.close(fd)


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
