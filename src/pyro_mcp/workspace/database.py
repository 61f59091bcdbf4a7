"""A file of SQLite in PYRO_HOME, and what its errors mean.

Source of the result codes and of what waits for the disk: sqlite.org, "Result and Error Codes", "PRAGMA synchronous",
"Write-Ahead Logging".
"""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pyro_mcp.errors import HostUnfit, PyroError

# Codes of errors.
DAMAGED = "state_corrupt"
UNUSABLE = "home_unusable"
NO_SPACE = "no_disk_space"
_VERSION = 1
_BUSY_SECONDS = 10.0
_MOST_SET_ASIDE = 5  # damaged files
_BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Database:
    """One connection, for one thread at a time. `durable` commits last through a power failure of the host.

    Others last through anything that happens to this process, and never wait for the disk. A power failure may cost
    those since the last `checkpoint`, and may damage a file in which others write.
    """

    def __init__(self, path: Path, schema: str, *, durable: bool) -> None:
        """Opens the file, or makes it with this schema. Raises `HostUnfit`."""
        self._path = path
        self._schema = schema
        self._lock = threading.RLock()
        with self._explained():
            self._connection = _connect(self._path, durable=durable)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing. Raises `HostUnfit`; `sqlite3.IntegrityError` passes."""
        with self._explained(), self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def rows(self, query: str, values: tuple[object, ...] = ()) -> list[sqlite3.Row]:
        """What a query finds. Raises `HostUnfit`."""
        with self._explained(), self._lock:
            return self._connection.execute(query, values).fetchall()

    def version(self) -> int:
        """A number that is another one once other connections have changed something. Raises `HostUnfit`."""
        (row,) = self.rows("PRAGMA data_version")
        return int(row[0])

    def checkpoint(self) -> None:
        """Move what was written into the file proper; waits for the disk, and nobody else does meanwhile.

        It takes a connection of its own: SQLite holds up no writer for it, and ours is not locked.
        """
        with self._explained(), closing(_connect(self._path, durable=True)) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        """Write nothing any more."""
        with self._lock:
            self._connection.close()

    def _prepare(self) -> None:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise HostUnfit(
                "state_newer",
                f"{self._path} was written by a newer pyro (its version is {version}, this pyro knows {_VERSION})",
                "use that pyro, or set PYRO_HOME to another folder",
            )
        if version == 0:
            self._connection.executescript(f"BEGIN IMMEDIATE; {self._schema} PRAGMA user_version = {_VERSION}; COMMIT;")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.DatabaseError as error:
            raise _explained(self._path, error) from error
        except OSError as error:
            raise _unusable(self._path, error.strerror or str(error)) from error


def _connect(path: Path, *, durable: bool) -> sqlite3.Connection:
    # SQLite would make it for everybody to read, but for the umask. One that is there is not opened by us: to close it
    # would take the locks away that other connections of this process have on it.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
        # The one that does not wait for the disk leaves that to `checkpoint`; if none comes, its log ends at 64 MiB.
        connection.execute(f"PRAGMA wal_autocheckpoint = {1_000 if durable else 16_000}").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def set_aside(path: Path) -> Path:
    """Rename a damaged file that nobody has open, and return its new name: that and `.corrupt-`, and a number from 1.

    The highest number is used again and again, so that not every file is kept for ever. Raises `HostUnfit`.
    """
    names = [path.with_name(f"{path.name}.corrupt-{number}") for number in range(1, _MOST_SET_ASIDE + 1)]
    aside = next((name for name in names if not name.exists()), names[-1])
    try:
        # Its log goes first: left behind, it would be taken for the next file's.
        for end in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + end).replace(aside.with_name(aside.name + end))
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error
    return aside


def no_space(path: Path, home: Path) -> HostUnfit:
    """The error for something in a PYRO_HOME whose disk is full."""
    hint = f"`pyro workspace prune` removes what was deleted; or free some other space on the disk of {home}"
    return HostUnfit(NO_SPACE, f"the disk of {path} is full", hint)


def _explained(path: Path, error: sqlite3.DatabaseError) -> PyroError:
    extended = getattr(error, "sqlite_errorcode", 0)
    code = extended & 0xFF
    if code in _BROKEN:
        return HostUnfit(
            DAMAGED,
            f"{path} is damaged: {error}",
            f"put a good copy in its place, or move it away; the disks stay in {path.parent / 'workspaces'}",
        )
    if code == sqlite3.SQLITE_FULL or extended == sqlite3.SQLITE_IOERR_SHMSIZE:
        return no_space(path, path.parent)
    return _unusable(path, str(error))


def _unusable(path: Path, why: str) -> PyroError:
    return HostUnfit(UNUSABLE, f"cannot use {path} (see PYRO_HOME): {why}", "pyro doctor")
