"""Turns trees of the host into a tar stream: a look over everything first, then the stream itself."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pyro_mcp.errors import PyroError
from pyro_mcp.transfer import tree
from pyro_mcp.transfer.host_paths import unreadable
from pyro_mcp.transfer.limits import CHUNK_BYTES, MAX_PATH_BYTES, Tally, shown, too_large
from pyro_mcp.transfer.tar_headers import Attributes
from pyro_mcp.transfer.tar_writer import TarWriter
from pyro_mcp.transfer.tree import Found, Part


@dataclass(frozen=True)
class Owners:
    """Whose files become root's in the guest: those of whoever pyro runs as, and of whoever owns the folder.

    Without the latter, git in the guest would not trust a checkout of another user that root made a workspace of.
    """

    uids: frozenset[int]
    gids: frozenset[int]

    @staticmethod
    def of(parts: Sequence[Part]) -> "Owners":
        tops = [os.fstat(part.fd) for part in parts]
        uids = {os.geteuid(), *(top.st_uid for top in tops)}
        return Owners(frozenset(uids), frozenset({os.getegid(), *(top.st_gid for top in tops)}))


def scan(parts: Sequence[Part], tally: Tally) -> None:
    """Count in `tally` what the parts hold, before anything of it is moved.

    Raises `InvalidRequest` for what is too large or cannot be read.
    """
    for part in parts:
        for found in tree.walk(part):
            if len(found.path.encode(errors="surrogateescape")) > MAX_PATH_BYTES:
                raise too_large("a path longer than 4096 bytes")
            if found.is_file:
                if not os.access(found.name, os.R_OK, dir_fd=found.folder, effective_ids=True):
                    _must_be_gone(found, part)
                    continue
                tally.add(found.stat.st_size)
            elif found.is_folder or found.is_symlink:
                tally.add(folder=found.is_folder)
            else:
                tally.skipped += 1


def write(parts: Sequence[Part], writer: TarWriter, owners: Owners, tally: Tally) -> None:
    """Write all that the parts hold, and the end of the archive.

    What vanished since the scan is left out, a file that changes its size meanwhile is cut or padded to what it had
    when it was opened. Raises `InvalidRequest` as `scan` does, `BrokenPipeError` when the reader has gone.
    """
    writing = _Writing(writer, owners, tally)
    for part in parts:
        for found in tree.walk(part):
            writing.take(found, part)
    writer.finish()


@dataclass(frozen=True)
class _Writing:
    writer: TarWriter
    owners: Owners
    tally: Tally

    def take(self, found: Found, part: Part) -> None:
        name = os.fsencode(found.path)
        if found.is_folder:
            self.tally.add(folder=True)
            self.writer.folder(name, self._attributes(found.stat))
        elif found.is_symlink:
            target = tree.read_link(found)
            if target is not None:
                self.tally.add()
                self.writer.symlink(name, os.fsencode(target), self._attributes(found.stat))
        elif found.is_file:
            self._file(name, found, part.on_host(found))
        else:
            self.tally.skipped += 1

    def _file(self, name: bytes, found: Found, path: str) -> None:
        opened = tree.open_file(found, path)
        if opened is None:
            return
        fd, now = opened
        try:
            self.tally.add(now.st_size)
            came = self.writer.file(name, now.st_size, _chunks(fd, path), self._attributes(now))
            self.tally.changed += came != now.st_size
        finally:
            os.close(fd)

    def _attributes(self, now: os.stat_result) -> Attributes:
        uid = 0 if now.st_uid in self.owners.uids else now.st_uid
        gid = 0 if now.st_gid in self.owners.gids else now.st_gid
        return Attributes(now.st_mode & 0o7777, uid, gid, now.st_mtime_ns)


def _chunks(fd: int, path: str) -> Iterator[bytes]:
    while True:
        try:
            chunk = os.read(fd, CHUNK_BYTES)
        except OSError as error:
            raise PyroError("read_failed", f"{shown(path)} cannot be read: {error.strerror}") from error
        if not chunk:
            return
        yield chunk


def _must_be_gone(found: Found, part: Part) -> None:
    """A file that cannot be read is an error, unless there is none any more."""
    if os.access(found.name, os.F_OK, dir_fd=found.folder, effective_ids=True, follow_symlinks=False):
        raise unreadable(part.on_host(found))
