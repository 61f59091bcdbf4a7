"""Blank disks: an empty ext4 file system made once per size, and independent copies of it for VMs.

A blank disk of gigabytes has some 200 KiB of data; everything else is a hole, in the copies too.
"""

import asyncio
import errno
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from pyro_mcp import sparse
from pyro_mcp.errors import HostUnfit, InvalidRequest
from pyro_mcp.images import confine, locks
from pyro_mcp.images.rootfs import missing_program, says_no_space
from pyro_mcp.images.store import sync_folder
from pyro_mcp.resource_limits import limit_hint
from pyro_mcp.to_the_end import to_the_end

NO_SPACE = "no_disk_space"
"""The code of what is raised where the host's disk is full."""

# How to have more space where blank disks and the copies without a name are, and where those of workspaces are.
_CACHE = "free some space (pyro env prune), or set PYRO_CACHE_DIR to another disk"
_HOME = "free some space (pyro workspace prune), or set PYRO_HOME to another disk"
_MIB = 1024 * 1024
# ext4 as mkfs.ext4 makes it below (journal and all) does not fit into less.
MIN_DISK_BYTES = 16 * _MIB
# From linux/fs.h, for x86 and arm: _IOW(0x94, 9, int).
_FICLONE = 0x40049409
# Names the way in which disks are made; a change of that makes new ones.
_GENERATION = 2
_MKFS = ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard")
# No disk ever grows; the room for that would be 4 MiB of a disk of 8 GiB, which each copy writes anew.
_FEATURES = "^resize_inode"
_NO_JOURNAL = "^has_journal"
# What the guest's agent makes where it is missing (guest-agent/src/root.rs): to copy it takes less time.
FOLDERS = (
    *("upper", "work", "commands"),
    *("workspace", "workspace/upper", "workspace/work", "workspace/empty"),
)


async def open_blank(cache_dir: Path, size_bytes: int, *, journal: bool = True) -> int:
    """A read-only descriptor of a blank ext4 disk of that size (a multiple of 1 MiB, 16 MiB or more), made if need be.

    Without a `journal` it is mounted and written to more quickly, and of no use after a crash. The caller closes it.
    Raises `InvalidRequest` for a size that cannot be, `HostUnfit` for a missing mkfs.ext4 or a disk of the host that is
    full or cannot be written.
    """
    if size_bytes < MIN_DISK_BYTES or size_bytes % _MIB:
        raise InvalidRequest("bad_disk_size", f"a disk cannot have {size_bytes} bytes", "use whole MiB, 16 or more")
    folder = cache_dir / "disks"
    path = folder / f"blank-{_GENERATION}-{size_bytes // _MIB}{'' if journal else '-no-journal'}.ext4"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not _is_there(path, size_bytes):
            async with locks.for_long(folder / "blank.lock", lambda: None):
                if not _is_there(path, size_bytes):
                    await _make(path, size_bytes, _FEATURES if journal else f"{_FEATURES},{_NO_JOURNAL}")
        return os.open(path, os.O_RDONLY)
    except OSError as error:
        raise _mapped(error, folder, _CACHE) from error


async def clone(blank: int, folder: Path) -> int:
    """An independent read-write copy of a disk as a file without a name in `folder`, of the cache; gone with its users.

    Returns its descriptor, which the caller closes and may pass on (/proc/self/fd/N). Shares blocks where the file
    system can, else copies the data and leaves the holes. Raises `HostUnfit` where it cannot be written.
    """
    return await to_the_end(asyncio.to_thread(_clone, blank, folder), os.close)


async def clone_to(blank: int, path: Path) -> None:
    """An independent copy of a disk at `path`, in a workspace's home: for its owner alone, in place of what was there.

    It lasts through a power failure once this returns. Where it fails nothing is left; `HostUnfit` where it
    cannot be written.
    """
    await to_the_end(asyncio.to_thread(_clone_to, blank, path))


def _is_there(path: Path, size_bytes: int) -> bool:
    """Whether the disk is there with its whole size; a file that somebody cut is made anew."""
    try:
        return path.stat().st_size == size_bytes
    except FileNotFoundError:
        return False


async def _make(path: Path, size_bytes: int, features: str) -> None:
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as file:
            file.truncate(size_bytes)
        await _run(*_MKFS, "-O", features, str(temporary))
        with tempfile.NamedTemporaryFile("w", prefix="folders-", dir=path.parent) as commands:
            commands.writelines(f"mkdir {folder}\n" for folder in FOLDERS)
            commands.flush()
            await _run("debugfs", "-w", "-f", commands.name, str(temporary))
        fd = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.chmod(0o444)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


async def _run(*argv: str) -> None:
    """Run a program of e2fsprogs."""
    environment = confine.environment()
    if shutil.which(argv[0], path=environment["PATH"]) is None:
        raise missing_program(argv[0], "e2fsprogs")
    ended = await confine.run(confine.Confinement(()), argv, env=environment)
    if says_no_space(ended.lines):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if ended.exit_code != 0:
        words = " ".join(ended.lines[-2:])
        raise HostUnfit("disk_failed", f"{argv[0]} ended with code {ended.exit_code}: {words}", "pyro doctor")


def _clone(blank: int, folder: Path) -> int:
    try:
        # Made without a name where the file system can, else unlinked at once.
        with tempfile.TemporaryFile(dir=folder, prefix="disk-", buffering=0) as file:
            _fill(blank, file.fileno())
            return os.dup(file.fileno())
    except OSError as error:
        raise _mapped(error, folder, _CACHE) from error


def _clone_to(blank: int, path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _fill(blank, fd)
            os.fsync(fd)
        except BaseException:
            path.unlink()
            raise
        finally:
            os.close(fd)
        sync_folder(path.parent)
    except OSError as error:
        raise _mapped(error, path.parent, _HOME) from error


def _fill(blank: int, target: int) -> None:
    if not _share_blocks(blank, target):
        sparse.copy(blank, target)


def _share_blocks(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS):
            return False
        raise
    return True


def _mapped(error: OSError, folder: Path, more_space: str) -> HostUnfit:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HostUnfit(NO_SPACE, f"the disk of {folder} is full", more_space)
    why = error.strerror or str(error)
    hint = limit_hint(error) or "make that folder writable for pyro"
    return HostUnfit("disk_failed", f"cannot make a disk in {folder}: {why}", hint)
