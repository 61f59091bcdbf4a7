"""Where the daemon of a PYRO_HOME is found: its socket, its lock, its log."""

import contextlib
import errno
import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from pyro_mcp.errors import HostUnfit, InvalidRequest

_UCRED = struct.Struct("3i")  # struct ucred of socket(7): pid, uid, gid
_LOG_BYTES = 4 << 20


class DaemonPlace:
    """The files of one daemon, all in a folder that nobody else may enter."""

    def __init__(self, home: Path) -> None:
        self.home = home

    @property
    def socket_path(self) -> Path:
        return self.home / "daemon.sock"

    @property
    def lock_path(self) -> Path:
        return self.home / "daemon.lock"

    @property
    def log_path(self) -> Path:
        return self.home / "daemon.log"

    def prepare(self) -> None:
        """Make the folder, for its owner alone.

        Raises `InvalidRequest` where it is somebody else's, `HostUnfit` where it cannot be made or written.
        """
        with _using(self.home):
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.home.stat()
        if found.st_uid != os.getuid():
            raise InvalidRequest(
                "bad_setting", f"PYRO_HOME {self.home} belongs to another user", "set PYRO_HOME to a folder of yours"
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            with _using(self.home):
                self.home.chmod(0o700)

    def connect(self) -> socket.socket:
        """A connection to the daemon.

        Raises `OSError` when there is none, `InvalidRequest` when it is not ours, and `HostUnfit` where we may not ask.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _using(self.socket_path, PermissionError), self._short_path() as path:
                connection.connect(path)
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
            _, uid, _ = _UCRED.unpack(credentials)
            if uid != os.getuid():
                raise InvalidRequest("bad_setting", f"the daemon in PYRO_HOME {self.home} is another user's")
        except BaseException:
            connection.close()
            raise
        return connection

    def listen(self) -> socket.socket:
        """A listening socket in place of whatever dead one is there; the caller holds the lock.

        Raises `HostUnfit` where there can be none.
        """
        with _using(self.socket_path):
            self.socket_path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _using(self.socket_path):
                with self._short_path() as path:
                    listener.bind(path)
                self.socket_path.chmod(0o600)
            listener.listen(128)
        except BaseException:
            listener.close()
            raise
        return listener

    def socket_identity(self) -> tuple[int, int] | None:
        """What tells one daemon's socket from the next one's, or None while there is none."""
        try:
            found = self.socket_path.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_ctime_ns

    def open_lock(self) -> int:
        """The file that a daemon locks for its life. Raises `HostUnfit` where there can be none."""
        with _using(self.lock_path):
            return os.open(self.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def open_log(self) -> int:
        """The log, opened for appending; one that has grown large is set aside first.

        Raises `HostUnfit` where there can be none.
        """
        with _using(self.log_path):
            if self.log_path.exists() and self.log_path.stat().st_size > _LOG_BYTES:
                self.log_path.replace(self.log_path.with_suffix(".log.1"))
            return os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _short_path(self) -> "_ShortPath":
        return _ShortPath(self.home, self.socket_path.name)


@contextlib.contextmanager
def _using(path: Path, failure: type[OSError] = OSError) -> Iterator[None]:
    """Around what needs a file or folder of the place: name it where it cannot be used, which such a failure tells."""
    try:
        yield
    except failure as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise HostUnfit(
                "no_disk_space",
                f"the disk of {path} (see PYRO_HOME) is full",
                "free some space, or set PYRO_HOME to a folder on another disk",
            ) from error
        raise HostUnfit(
            "home_unusable",
            f"cannot use {path} (see PYRO_HOME): {error.strerror}",
            "set PYRO_HOME to a folder of yours that can be written",
        ) from error


class _ShortPath:
    """A path to a file in a folder that fits into a socket address, which holds 107 bytes, however deep the folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._fd = -1

    def __enter__(self) -> str:
        self._fd = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._fd}/{self._name}"

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
