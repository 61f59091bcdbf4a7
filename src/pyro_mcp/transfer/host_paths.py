"""Paths of the host that a request names: which are allowed, and opening exactly what was checked.

A path that was checked may be another one by the time it is opened, if somebody puts a symbolic link into it. So what
is allowed is worked out once, with all links resolved, and whatever is opened later goes down from `/` one name at a
time and follows no link at all: what stands at the end is what was checked, or there is an error.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from pyro_mcp.errors import Conflict, InvalidRequest, NotFound, PyroError
from pyro_mcp.transfer.limits import shown

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def allowed(path: str | Path, roots: Sequence[str | Path]) -> Path:
    """The absolute path that `path` leads to, if that is one of `roots` or below one.

    `path` must be absolute. All symbolic links are resolved, in the roots, too; what does not exist yet may be named.
    Raises `InvalidRequest` (`path_not_allowed`) for anything else.
    """
    text = os.fspath(path)
    if not os.path.isabs(text) or "\0" in text:
        raise InvalidRequest("bad_path", f"{shown(text)} is not an absolute path")
    resolved = Path(os.path.realpath(text))
    for root in roots:
        top = Path(os.path.realpath(root))
        if resolved == top or top in resolved.parents:
            return resolved
    raise InvalidRequest(
        "path_not_allowed",
        f"{shown(text)} is not in a folder that this server may use",
        "use a path in the working directory, or have the user start the server with --allow-path for that folder",
    )


def open_folder(path: str | Path, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a folder, reached without following a link anywhere in its absolute path.

    `flags` may be `os.O_PATH` where the folder is not to be listed. Raises `NotFound` or `InvalidRequest`.
    """
    return open_beneath(path, flags | os.O_DIRECTORY)


def open_beneath(path: str | Path, flags: int = os.O_RDONLY) -> int:
    """A descriptor of what stands at an absolute path, reached without following a link anywhere in it.

    It never waits (for the other end of a FIFO, say). Raises `NotFound` or `InvalidRequest` that name the path.
    """
    text = os.fspath(path)
    if not os.path.isabs(text) or "\0" in text:
        raise InvalidRequest("bad_path", f"{shown(text)} is not an absolute path")
    names = [name for name in text.split("/") if name and name != "."]
    if ".." in names:
        raise InvalidRequest("bad_path", f"{shown(text)} has a .. in it", "give the path without")
    folder = os.open("/", _STEP)
    try:
        for name in names[:-1]:
            step = _open(name, _STEP, folder, text)
            os.close(folder)
            folder = step
        return _open(names[-1] if names else ".", flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, folder, text)
    finally:
        os.close(folder)


def _open(name: str, flags: int, folder: int, path: str) -> int:
    try:
        fd = os.open(name, flags, dir_fd=folder)
        if flags & os.O_PATH and stat.S_ISLNK(os.fstat(fd).st_mode):  # with O_PATH the link itself opens
            os.close(fd)
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return fd
    except OSError as error:
        raise _explained(error, name, folder, path) from error


def _explained(error: OSError, name: str, folder: int, path: str) -> PyroError:
    with contextlib.suppress(OSError):
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            return InvalidRequest(
                "path_is_link",
                f"{shown(path)} leads through a symbolic link ({shown(name)})",
                "give the path that the link leads to",
            )
    match error.errno:
        case errno.ENOENT:
            return NotFound("path_not_found", f"there is no {shown(path)}", "check the path")
        case errno.ENOTDIR:
            return InvalidRequest("not_a_directory", f"{shown(path)}: {shown(name)} is not a folder", "give a folder")
        case errno.EACCES | errno.EPERM:
            return unreadable(path)
        case errno.ENXIO:
            return unsuitable(path, "a socket or device")
        case _:
            return InvalidRequest("bad_path", f"{shown(path)}: {os.strerror(error.errno or 0)}")


def unreadable(path: str) -> InvalidRequest:
    """The error for something that pyro's user may not read."""
    return InvalidRequest(
        "path_unreadable", f"no permission to read {shown(path)}", "make it readable for you, or leave it out"
    )


def unsuitable(path: str, what: str) -> InvalidRequest:
    """The error for something that is neither a file nor a folder."""
    return InvalidRequest("path_unsuitable", f"{shown(path)} is {what}", "give a folder or an archive")


def exists(path: str) -> Conflict:
    """The error for a place that something else has already."""
    return Conflict("output_exists", f"{shown(path)} exists already", "name a path that does not exist yet")
