"""Writes the entries of a hostile tar stream as files below a folder of ours, and nowhere else.

The folder is new and ours alone while this goes on. Every file is made anew (O_EXCL), every folder on the way is
entered without following links, so no entry can reach through another one.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from pyro_mcp.transfer import embedded_git
from pyro_mcp.transfer.folder_stack import FolderStack
from pyro_mcp.transfer.limits import Tally, shown
from pyro_mcp.transfer.names import BadName, components, stays_inside
from pyro_mcp.transfer.tar_headers import Attributes
from pyro_mcp.transfer.tar_reader import Member

T = TypeVar("T")
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SKIPPED_SHOWN = 1000
_GIT = "git repositories"
_LEADS_OUT = "links that lead out of what is exported"
_NO_FILE = "devices, pipes or sockets"
_MADE = frozenset(("file", "symlink", "hardlink"))  # besides folders
_MODES = 0o755  # what may be left of a mode: nobody but the owner writes


@dataclass
class Skipped:
    """What was not copied: the first names, how many there are, and what kinds of things they are."""

    names: list[str] = field(default_factory=list)
    count: int = 0
    kinds: dict[str, None] = field(default_factory=dict)  # in the order in which they came

    def add(self, parts: tuple[bytes, ...], kind: str) -> None:
        self.count += 1
        self.kinds[kind] = None
        if len(self.names) < _SKIPPED_SHOWN:
            self.names.append(shown(b"/".join(parts)))

    def listed(self) -> tuple[str, ...]:
        more = self.count - len(self.names)
        return (*self.names, *((f"and {more:,} more",) if more else ()))


class TreeWriter:
    """Files below the folder `top`.

    Owners: the guest's root becomes whoever we are, others are kept where we may (as root). Bits for set-uid, set-gid,
    sticky, and for others than the owner to write are dropped, and folders stay open to their owner, or they could
    hardly be removed again.

    Unless `include_git`, what is called `.git` is left out, and every other folder in which git would see a repository
    (the top one too) loses its HEAD, config and config.worktree: git on the host would run what those name.
    """

    def __init__(self, top: int, tally: Tally, *, include_git: bool = False) -> None:
        self._folders = FolderStack(top, lambda: tally.add(folder=True))
        self._tally = tally
        self._include_git = include_git
        self._finished: dict[bytes, Attributes] = {}  # folders by path
        self._with_head: dict[bytes, None] = {}  # paths of folders that may be repositories, in order
        self.skipped = Skipped()

    def take(self, member: Member, content: Iterator[bytes]) -> None:
        """Write one entry. Raises `BadName` for one that cannot be right, `OSError` from the disk."""
        parts = components(member.name)
        if self._stays_behind(parts, member):
            self._tally.pass_over()
            return
        if member.kind == "directory":
            self._take_folder(parts, member)
            return
        if not parts:
            raise BadName("an entry without a name")
        if member.kind not in _MADE:
            self._tally.pass_over()
            self.skipped.add(parts, _NO_FILE)
            return
        self._tally.add(member.size)
        folder, name = self._folders.enter(parts[:-1], make=True), parts[-1]
        if embedded_git.is_head(name):
            self._remember(self._with_head, parts[:-1], None)
        try:
            self._make(member, parts, folder, name, content)
        except FileExistsError:
            raise BadName("a second entry of one name") from None

    def _take_folder(self, parts: tuple[bytes, ...], member: Member) -> None:
        before = self._tally.entries
        self._folders.enter(parts, make=True)
        if self._tally.entries == before:  # it was there
            self._tally.pass_over()
        # Times and modes come last: making files below changes the first and may be forbidden by the second.
        self._remember(self._finished, parts, _about(member))

    def _remember(self, where: dict[bytes, T], parts: tuple[bytes, ...], what: T) -> None:
        path = b"/".join(parts)
        if path not in where:
            self._tally.keep(len(path))
        where[path] = what

    def _stays_behind(self, parts: tuple[bytes, ...], member: Member) -> bool:
        """Whether it belongs to a repository that was not asked for; of that only the top is named."""
        if self._include_git:
            return False
        if _of_git(parts):
            if not _of_git(parts[:-1]):
                self.skipped.add(parts, _GIT)
            return True
        if member.kind == "hardlink" and _of_git(components(member.target)):
            self.skipped.add(parts, _GIT)
            return True
        return False

    def finish(self) -> None:
        """Make repositories none, unless they were asked for, and give the folders their modes and times."""
        if not self._include_git:
            for path in self._with_head:
                self._disarm(components(path))
        for path, about in reversed(self._finished.items()):
            fd = self._folders.enter(components(path), make=False)
            _dress(fd, about, stat.S_IRWXU)

    def _disarm(self, parts: tuple[bytes, ...]) -> None:
        for name, was in embedded_git.disarm(self._folders.enter(parts, make=False)):
            self.skipped.add((*parts, name), _GIT)
            self._tally.files -= 1
            if stat.S_ISREG(was.st_mode) and was.st_nlink == 1:
                self._tally.bytes -= was.st_size

    def close(self) -> None:
        """Let go of the folders."""
        self._folders.close()

    def _make(
        self, member: Member, parts: tuple[bytes, ...], folder: int, name: bytes, content: Iterator[bytes]
    ) -> None:
        if member.kind == "file":
            _write_file(member, folder, name, content)
        elif member.kind == "symlink" and stays_inside(parts, member.target, strict=True):
            os.symlink(member.target, name, dir_fd=folder)
            if _keeps_owner(member):
                with _if_allowed():
                    os.chown(name, member.uid, member.gid, dir_fd=folder, follow_symlinks=False)
            os.utime(name, ns=(member.mtime_ns, member.mtime_ns), dir_fd=folder, follow_symlinks=False)
        elif member.kind == "hardlink":
            self._link(components(member.target), parts)
        else:
            self.skipped.add(parts, _LEADS_OUT)
            self._tally.files -= 1

    def _link(self, target: tuple[bytes, ...], parts: tuple[bytes, ...]) -> None:
        if not target:
            raise BadName("a link to nothing")
        try:
            source = os.dup(self._folders.enter(target[:-1], make=False))
        except FileNotFoundError:
            raise BadName("a link to something that did not come before") from None
        try:
            if not stat.S_ISREG(os.stat(target[-1], dir_fd=source, follow_symlinks=False).st_mode):
                raise BadName("a link to something that is no file")
            folder = self._folders.enter(parts[:-1], make=True)
            os.link(target[-1], parts[-1], src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            raise BadName("a link to something that did not come before") from None
        finally:
            os.close(source)


def _of_git(parts: tuple[bytes, ...]) -> bool:
    return any(name.lower() == b".git" for name in parts)


def _write_file(member: Member, folder: int, name: bytes, content: Iterator[bytes]) -> None:
    fd = os.open(name, _NEW_FILE, 0o600, dir_fd=folder)
    try:
        for chunk in content:
            with memoryview(chunk) as view:
                written = 0
                while written < len(view):
                    written += os.write(fd, view[written:])
        _dress(fd, _about(member))
    finally:
        os.close(fd)


def _about(member: Member) -> Attributes:
    return Attributes(member.mode & _MODES, member.uid, member.gid, member.mtime_ns)


def _dress(fd: int, about: Attributes, at_least: int = 0) -> None:
    if _keeps_owner(about):
        with _if_allowed():
            os.fchown(fd, about.uid, about.gid)
    os.fchmod(fd, about.mode | at_least)
    os.utime(fd, ns=(about.mtime_ns, about.mtime_ns))


def _keeps_owner(about: Attributes | Member) -> bool:
    return os.geteuid() == 0 and (about.uid, about.gid) != (0, 0)


@contextlib.contextmanager
def _if_allowed() -> Iterator[None]:
    """Root of a container may not give files to every id; such files stay ours."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EINVAL):
            raise
