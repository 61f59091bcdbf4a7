"""Where an export arrives: beside its place under a hidden name, and in its place in one step when it is complete."""

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
from pathlib import Path

from pyro_mcp.errors import HostUnfit, InvalidRequest, NotFound, PyroError
from pyro_mcp.transfer.host_paths import exists, open_folder
from pyro_mcp.transfer.limits import MAX_ENTRIES, MAX_NAME_BYTES, Tally, shown
from pyro_mcp.transfer.names import BadName
from pyro_mcp.transfer.tar_reader import BadTar, Source, TarReader
from pyro_mcp.transfer.tree_writer import Skipped, TreeWriter

_KEPT_FREE_BYTES = 256 << 20
_BLOCK_BYTES = 4096  # that file systems give to a file or folder at a time
_AFTER_END_BYTES = 1 << 20  # of zeros that a tar stream may carry after its end
_NOREPLACE = 1  # linux/fs.h, RENAME_NOREPLACE
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_libc = ctypes.CDLL(None, use_errno=True)


class Landing:
    """A place on the host for an export. Its methods block.

    The folder that it is in is opened once, without following links, and everything goes on below that descriptor.
    Repositories stay behind unless `include_git`; folders that look like one whatever they are called lose their HEAD
    and config. Raises `NotFound`, `InvalidRequest`, `Conflict` (`output_exists`) and `HostUnfit`.
    """

    def __init__(self, output: Path, *, include_git: bool = False) -> None:
        self._output = str(output)
        self._include_git = include_git
        self._name = output.name
        if not self._name or self._name == "..":
            raise InvalidRequest("bad_path", f"{shown(self._output)} names no place to write to")
        self._parent = _open_parent(output)
        self._staged = -1
        try:
            self._replaces_folder = self._check_free()
            self._hidden = self._stage()
        except BaseException:
            self._close()
            raise
        self._only_file: bytes | None = None
        self.tally = Tally(
            max_bytes=self._room(),
            max_entries=MAX_ENTRIES,
            block_bytes=_BLOCK_BYTES,
            refusal=self._too_large,
            too_many=_too_many,
        )
        self.skipped = Skipped()

    def receive(self, source: Source) -> None:
        """Take a tar stream of a folder (`./` before each name) or of one file, to its end.

        Raises `BadTar` and `BadName` for a stream that cannot be right, `HostUnfit` for a full disk.
        """
        writer = TreeWriter(self._staged, self.tally, include_git=self._include_git)
        try:
            self._receive(TarReader(source), writer)
            _expect_end(source)
            os.fchmod(self._staged, 0o755)  # unless the stream says otherwise of its top folder
            writer.finish()
        except OSError as error:
            raise self._failed(error) from error
        finally:
            writer.close()
        self.skipped = writer.skipped

    def settle(self) -> None:
        """Give what came its name."""
        try:
            if self._only_file is not None:
                self._rename(self._only_file, self._staged, replace=False)
            else:
                self._rename(os.fsencode(self._hidden), self._parent, replace=self._replaces_folder)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR, errno.ENOTDIR):
                raise exists(self._output) from error
            raise self._failed(error) from error

    def close(self) -> None:
        """Remove what was not settled."""
        try:
            with contextlib.suppress(OSError):
                shutil.rmtree(self._hidden, dir_fd=self._parent)
        finally:
            self._close()

    def _receive(self, reader: TarReader, writer: TreeWriter) -> None:
        for count, member in enumerate(reader.members()):
            if count == 0 and not (member.name + b"/").startswith(b"./"):
                self._only_file = member.name
                if b"/" in member.name or member.kind != "file":
                    raise BadTar("neither a folder nor a file")
            elif self._only_file is not None:
                raise BadTar("something after a single file")
            try:
                writer.take(member, reader.content())
            except BadName as error:
                raise BadName(f"{shown(member.name)}: {error}") from error
        if self._only_file is not None and self._replaces_folder:
            raise InvalidRequest(
                "output_is_directory", f"{shown(self._output)} is a folder", "name the file that is to be written"
            )

    def _check_free(self) -> bool:
        """True if an empty folder is to be replaced. Raises `Conflict` if there is anything else."""
        try:
            found = os.stat(self._name, dir_fd=self._parent, follow_symlinks=False)
        except FileNotFoundError:
            return False
        except OSError as error:  # in a folder that we may not enter, say: nothing is known of what is there
            raise self._failed(error) from error
        if not stat.S_ISDIR(found.st_mode):
            raise exists(self._output)
        try:
            fd = os.open(self._name, _FOLDER, dir_fd=self._parent)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise exists(self._output) from error
        try:
            if os.listdir(fd):
                raise exists(self._output)
        finally:
            os.close(fd)
        return True

    def _stage(self) -> str:
        """A hidden folder beside the output, locked for as long as this goes on."""
        prefix = f".{os.fsdecode(os.fsencode(self._name)[: MAX_NAME_BYTES - 32])}.pyro-"
        _remove_stale(self._parent, prefix)
        hidden = prefix + secrets.token_hex(4)
        try:
            os.mkdir(hidden, 0o700, dir_fd=self._parent)
            self._staged = os.open(hidden, _FOLDER, dir_fd=self._parent)
        except OSError as error:
            raise self._failed(error) from error
        with contextlib.suppress(OSError):  # not every file system has locks
            fcntl.flock(self._staged, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return hidden

    def _room(self) -> int:
        disk = os.fstatvfs(self._staged)
        return max(0, disk.f_bavail * disk.f_frsize - _KEPT_FREE_BYTES)

    def _rename(self, old: bytes, folder: int, *, replace: bool) -> None:
        if replace:
            # Of folders rename(2) replaces empty ones only.
            os.rename(old, self._name, src_dir_fd=folder, dst_dir_fd=self._parent)
            return
        if _libc.renameat2(folder, old, self._parent, os.fsencode(self._name), _NOREPLACE) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(number, os.strerror(number))
        # A file system without that: a link fails where something is, a folder replaces nothing but an empty folder.
        if self._only_file is not None:
            os.link(old, self._name, src_dir_fd=folder, dst_dir_fd=self._parent, follow_symlinks=False)
        else:
            os.rename(old, self._name, src_dir_fd=folder, dst_dir_fd=self._parent)

    def _too_large(self, what: str) -> PyroError:
        return HostUnfit("no_disk_space", f"{what}: too much for the disk of {shown(self._output)}", "free some space")

    def _failed(self, error: OSError) -> PyroError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return HostUnfit("no_disk_space", f"the disk of {shown(self._output)} is full", "free some space")
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return InvalidRequest("not_writable", f"no permission to write {shown(self._output)}", "name another place")
        return InvalidRequest("write_failed", f"{shown(self._output)} cannot be written: {error.strerror}")

    def _close(self) -> None:
        for fd in (self._staged, self._parent):
            if fd >= 0:
                os.close(fd)
        self._staged = self._parent = -1


def _too_many(what: str) -> PyroError:
    return InvalidRequest(
        "export_too_large",
        f"{what}: more than one export carries",
        "export its folders one by one, or pack them into an archive in the workspace and export that",
    )


def _open_parent(output: Path) -> int:
    try:
        return open_folder(output.parent, os.O_PATH)
    except NotFound as error:
        raise NotFound(
            "path_not_found", f"there is no folder {shown(str(output.parent))} to write into", "make the folder first"
        ) from error


def _remove_stale(parent: int, prefix: str) -> None:
    """Remove what an export to the same place left that was killed: it holds its lock no more."""
    ours = re.compile(re.escape(prefix) + "[0-9a-f]{8}")
    with contextlib.suppress(OSError):
        listing = os.open(".", _FOLDER, dir_fd=parent)
        try:
            names = [name for name in os.listdir(listing) if ours.fullmatch(name)]
        finally:
            os.close(listing)
        for name in names:
            with contextlib.suppress(OSError):  # in use, or not what it looks like
                _remove_unlocked(parent, name)


def _remove_unlocked(parent: int, name: str) -> None:
    fd = os.open(name, _FOLDER, dir_fd=parent)
    try:
        if os.fstat(fd).st_uid == os.geteuid():
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(name, dir_fd=parent)
    finally:
        os.close(fd)


def _expect_end(source: Source) -> None:
    left = _AFTER_END_BYTES
    while data := source.read(64 * 1024):
        left -= len(data)
        if left < 0 or data.strip(b"\0"):
            raise BadTar("something after its end")
