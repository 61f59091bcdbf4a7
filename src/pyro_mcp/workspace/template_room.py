"""Whether the host's disk has room for one more template, and whether what kept one from being made may pass."""

import errno
import os
import shutil
from pathlib import Path

from pyro_mcp.errors import PyroError
from pyro_mcp.images.disk import NO_SPACE
from pyro_mcp.images.rootfs import says_no_space

AGAIN_SECONDS = 60.0
"""After which it is tried again where that may help. Each attempt that is not stopped by `check` costs a boot."""
_ROOM_MIB = 128  # of which memory, state and disk take some 100, whatever memory the machine has
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
_CODES = (NO_SPACE, "cache_unwritable", "disk_failed")


def check(folder: Path) -> None:
    """Before a boot that would be in vain. Raises `OSError` where no template can be written in that folder."""
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OSError(errno.EACCES, "it cannot be written", str(folder))
    free = shutil.disk_usage(folder).free >> 20
    if free < _ROOM_MIB:
        raise OSError(errno.ENOSPC, f"a template needs {_ROOM_MIB} MiB, and {free} are free", str(folder))


def may_pass(error: PyroError | OSError) -> bool:
    """Whether that is trouble with the host's disk, which somebody may end at any time."""
    if isinstance(error, PyroError):
        return error.code in _CODES or says_no_space((error.message,))
    return error.errno in _OF_DISKS


def in_words(error: PyroError | OSError, folder: Path) -> str:
    """What is wrong, and with which file as far as that is known."""
    if isinstance(error, PyroError):
        return error.message
    return f"{error.filename or folder}: {error.strerror or error}"
