"""Walks file trees of the host below descriptors, so that no name is ever looked up twice from the top.

What is found may vanish or turn into something else at any moment. Nothing is followed: a symbolic link is a link.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Union

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.transfer.host_paths import unreadable
from pyro_mcp.transfer.limits import MAX_DEPTH, shown

# What to take of a folder: a name leads to what to take of the folder of that name, or to None: all that is there.
Chosen = dict[str, Union["Chosen", None]]
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


@dataclass(frozen=True)
class Part:
    """One folder of the host (an open descriptor) that goes into the transfer below `prefix` (`` or `NAME/`).

    `chosen` is what to take of it (None: all), `skip` paths relative to it that are left out.
    """

    fd: int
    path: str
    chosen: Chosen | None = None
    prefix: str = ""
    skip: frozenset[str] = field(default_factory=frozenset)

    def on_host(self, found: "Found") -> str:
        """Where something found in this part is on the host, for messages."""
        return f"{self.path}/{found.path.removeprefix(self.prefix)}"


@dataclass(frozen=True)
class Found:
    """Something in a tree: its path in the transfer, and where it is: `name` below the open folder `folder`.

    `folder` stays open until the walk goes on.
    """

    path: str
    name: str
    folder: int
    stat: os.stat_result

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.stat.st_mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.stat.st_mode)

    @property
    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.stat.st_mode)


def walk(part: Part) -> Iterator[Found]:
    """Everything that a part holds, a folder before what is in it, sorted within each folder.

    Raises `InvalidRequest` for a folder that cannot be read, or is too deep.
    """
    levels: list[_Level] = []
    try:
        levels.append(_Level(os.open(".", _FOLDER_FLAGS, dir_fd=part.fd), "", part.chosen, part.path))
        while levels:
            level = levels[-1]
            name = next(level.names, None)
            if name is None:
                os.close(levels.pop().fd)
                continue
            relative = level.prefix + name
            found = None if relative in part.skip else _look(level.fd, name, relative, part)
            if found is None:
                continue
            yield found
            if found.is_folder:
                below = None if level.chosen is None else level.chosen[name]
                fd = _enter(level.fd, name, f"{part.path}/{relative}")
                if fd is not None:
                    levels.append(_Level(fd, f"{relative}/", below, f"{part.path}/{relative}"))
                if len(levels) > MAX_DEPTH:
                    raise InvalidRequest("seed_too_deep", f"folders deeper than {MAX_DEPTH} levels: {shown(relative)}")
    finally:
        for level in levels:
            os.close(level.fd)


class _Level:
    """A folder that is being walked; owns its descriptor until it is on the list of levels."""

    def __init__(self, fd: int, prefix: str, chosen: Chosen | None, path: str) -> None:
        self.fd = fd
        self.prefix = prefix
        self.chosen = chosen
        try:
            self.names = iter(sorted(os.listdir(fd) if chosen is None else chosen))
        except OSError as error:
            os.close(fd)
            raise unreadable(path) from error


def _look(folder: int, name: str, relative: str, part: Part) -> Found | None:
    try:
        return Found(part.prefix + relative, name, folder, os.stat(name, dir_fd=folder, follow_symlinks=False))
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise unreadable(f"{part.path}/{relative}") from error


def _enter(folder: int, name: str, path: str) -> int | None:
    """The folder's descriptor, or None if it is no folder any more."""
    try:
        return os.open(name, _FOLDER_FLAGS, dir_fd=folder)
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise unreadable(path) from error


def read_link(found: Found) -> str | None:
    """Where a symbolic link leads, or None if it is none any more."""
    with contextlib.suppress(OSError):
        return os.readlink(found.name, dir_fd=found.folder)
    return None


def open_file(found: Found, path: str) -> tuple[int, os.stat_result] | None:
    """A regular file's descriptor and its state as opened, or None if it is no regular file any more."""
    try:
        fd = os.open(found.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=found.folder)
    except OSError as error:
        if error.errno in (*_GONE, errno.ENXIO):
            return None
        raise unreadable(path) from error
    now = os.fstat(fd)
    if not stat.S_ISREG(now.st_mode):
        os.close(fd)
        return None
    return fd, now
