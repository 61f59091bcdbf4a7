"""The file in which workspaces are written down: PYRO_HOME/state.db, SQLite.

What is lost with it are the names of disks, not the disks; but no disk whose workspace is not in here is ever removed.
So a file that cannot be read, or that a newer pyro has written, is left as it is, and everything that needs it fails
and says why. Source of the result codes: sqlite.org, "Result and Error Codes".
"""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyro_mcp.errors import HostUnfit, PyroError

FILE_NAME = "state.db"
_VERSION = 1
_BUSY_SECONDS = 10.0
_SCHEMA = """
CREATE TABLE workspaces (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT,
    labels TEXT NOT NULL,
    environment TEXT NOT NULL,
    digest TEXT NOT NULL,
    vcpu_count INTEGER NOT NULL,
    mem_mib INTEGER NOT NULL,
    network_policy TEXT NOT NULL,
    created_at TEXT NOT NULL,
    vmm TEXT NOT NULL,
    disk TEXT NOT NULL,
    state TEXT NOT NULL,
    seed TEXT,
    ttl_seconds INTEGER,
    expires_at TEXT,
    stopped_because TEXT,
    deleted_at TEXT,
    vmm_pid INTEGER,
    vmm_start_time INTEGER,
    boot_id TEXT
);
CREATE UNIQUE INDEX names_in_use ON workspaces (name) WHERE state NOT IN ('deleted', 'purged');
CREATE TABLE kept_disks (
    workspace_id TEXT PRIMARY KEY NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    disk TEXT NOT NULL,
    kept_at TEXT NOT NULL
);
CREATE TABLE execs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    exec_id TEXT NOT NULL,
    command TEXT NOT NULL,
    status TEXT NOT NULL,
    started_at TEXT NOT NULL,
    exit_code INTEGER,
    duration_ms INTEGER,
    output_bytes INTEGER,
    UNIQUE (workspace_id, exec_id)
);
CREATE INDEX execs_in_order ON execs (workspace_id, number);
CREATE INDEX running_execs ON execs (workspace_id) WHERE status = 'running';
"""
_BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Database:
    """One connection, for one thread at a time. `durable` commits last through a power failure of the host.

    Others last through anything that happens to this process, and cost no wait for the disk.
    """

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self._path = folder / FILE_NAME
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

    def checkpoint(self) -> None:
        """Move what was written into the file proper; waits for the disk."""
        with self._explained(), self._lock:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

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
            self._connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")

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
    # SQLite would make it for everybody to read, but for the umask.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        # The one that does not wait for the disk leaves that to `checkpoint`, but for a log of 64 MiB.
        connection.execute(f"PRAGMA wal_autocheckpoint = {1_000 if durable else 16_000}").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _explained(path: Path, error: sqlite3.DatabaseError) -> PyroError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _BROKEN:
        return HostUnfit(
            "state_corrupt",
            f"{path} is damaged: {error}",
            f"put a good copy in its place, or move it away; the disks stay in {path.parent / 'workspaces'}",
        )
    if code == sqlite3.SQLITE_FULL:
        return HostUnfit("no_disk_space", f"the disk of {path} is full", "free some space")
    return _unusable(path, str(error))


def _unusable(path: Path, why: str) -> PyroError:
    return HostUnfit("home_unusable", f"cannot use {path} (see PYRO_HOME): {why}", "pyro doctor")
