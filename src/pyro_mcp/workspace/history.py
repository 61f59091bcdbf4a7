"""The commands that ran in workspaces, as far as they are written down: the newest of each, in PYRO_HOME/history.db.

It is a file of its own so that nobody who adds to it waits for who writes durably elsewhere, and so that no workspace
is lost with it: a damaged one is set aside, and a new one begun.
"""

import json
import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Container
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pyro_mcp.errors import HostUnfit, NotFound, PyroError
from pyro_mcp.workspace.database import DAMAGED, Database, set_aside
from pyro_mcp.workspace_models import ExecInfo

log = logging.getLogger(__name__)
T = TypeVar("T")
FILE_NAME = "history.db"
KEPT_COMMANDS = 1_000  # of each workspace
# How many more may be there until the oldest are removed, which costs more than to add one.
_SLACK = 64
_COMMAND_CHARACTERS = 4096  # of a command's words, as far as they are kept
_SCHEMA = """
CREATE TABLE execs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    workspace_id TEXT NOT NULL,
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


class History:
    """`commands.CommandHistory` of one PYRO_HOME.

    Nothing but `checkpoint`, and to open and to close it, waits for the disk, nor for one of those that do. Where the
    file turns out to be damaged, it is replaced by a blank one at once.
    """

    def __init__(self, home: Path) -> None:
        """Raises `HostUnfit`, as `Records` does, but for a file that is damaged."""
        self._path = home / FILE_NAME
        self._added: Counter[str] = Counter()
        self._replacing = threading.Lock()  # held too while a checkpoint is made, which needs the file where it is
        self._database = self._opened()

    def close(self) -> None:
        """Let go of the file."""
        with suppress(PyroError):
            self.checkpoint()
        self._database.close()

    def checkpoint(self) -> None:
        """Bring the database's log down; waits for the disk."""
        with self._replacing:
            self._database.checkpoint()

    def forget(self, workspace_id: str) -> None:
        """Remove what ran in a workspace that is no more; if that fails it is only logged."""
        self._added.pop(workspace_id, None)
        try:
            self._write(lambda to: to.execute("DELETE FROM execs WHERE workspace_id = ?", (workspace_id,)))
        except PyroError as error:
            log.warning("cannot forget the commands of %s: %s", workspace_id, error.message)

    def forget_others(self, known: Container[str]) -> None:
        """Remove what ran in workspaces other than these; if that fails it is only logged."""
        try:
            unknown = [each for each in self.counts() if each not in known]
        except PyroError as error:
            log.warning("cannot tell whose commands to forget: %s", error.message)
            return
        for workspace_id in unknown:
            self.forget(workspace_id)

    def add_exec(self, info: ExecInfo) -> None:
        """A new command. Raises `ValueError` for an id that its workspace has had."""
        values = (
            info.workspace_id,
            info.exec_id,
            json.dumps(_shortened(info.command)),
            info.started_at,
            *_changing(info),
        )

        def add(to: sqlite3.Connection) -> None:
            to.execute(
                "INSERT INTO execs (workspace_id, exec_id, command, started_at,"
                " status, exit_code, duration_ms, output_bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )
            self._added[info.workspace_id] += 1
            if self._added[info.workspace_id] % _SLACK == 0:
                _remove_oldest(to, info.workspace_id)

        try:
            self._write(add)
        except sqlite3.IntegrityError:
            raise ValueError(f"{info.workspace_id} has a command {info.exec_id}") from None

    def update_exec(self, info: ExecInfo) -> None:
        """How a command stands now; nothing happens if it is not written down any more."""
        values = (*_changing(info), info.workspace_id, info.exec_id)
        columns = "status = ?, exit_code = ?, duration_ms = ?, output_bytes = ?"
        update = f"UPDATE execs SET {columns} WHERE workspace_id = ? AND exec_id = ?"  # noqa: S608
        self._write(lambda to: to.execute(update, values))

    def exec(self, workspace_id: str, exec_id: str) -> ExecInfo:
        """One command. Raises `NotFound`."""
        query = "SELECT * FROM execs WHERE workspace_id = ? AND exec_id = ?"
        rows = self._rows(query, (workspace_id, exec_id))
        if not rows:
            raise NotFound(
                "unknown_command",
                f"{workspace_id} has no command {exec_id[:40]!r}, or has had {KEPT_COMMANDS} since",
                f"`pyro workspace logs {workspace_id}` lists its commands",
            )
        return _info(rows[0])

    def execs(self, workspace_id: str, *, running: bool = False) -> tuple[ExecInfo, ...]:
        """The newest commands, or those that run, oldest first."""
        only = "AND status = 'running'" if running else ""
        query = f"SELECT * FROM execs WHERE workspace_id = ? {only} ORDER BY number DESC LIMIT {KEPT_COMMANDS}"  # noqa: S608
        return tuple(_info(row) for row in reversed(self._rows(query, (workspace_id,))))

    def lost(self, workspace_id: str) -> None:
        """Whatever ran in it went down with its machine."""
        update = "UPDATE execs SET status = 'lost' WHERE workspace_id = ? AND status = 'running'"
        self._write(lambda to: to.execute(update, (workspace_id,)))

    def counts(self, workspace_id: str | None = None) -> dict[str, tuple[int, int]]:
        """How many commands each workspace, or that one, has in here, and how many of them run."""
        added = self._count("1", workspace_id)
        running = self._count("status = 'running'", workspace_id)
        return {each: (min(count, KEPT_COMMANDS), running.get(each, 0)) for each, count in added.items()}

    def _count(self, which: str, workspace_id: str | None) -> dict[str, int]:
        here, values = ("workspace_id = ?", (workspace_id,)) if workspace_id is not None else ("1", ())
        query = f"SELECT workspace_id, count(*) AS count FROM execs WHERE {which} AND {here} GROUP BY workspace_id"  # noqa: S608
        return {row["workspace_id"]: row["count"] for row in self._rows(query, values)}

    def _rows(self, query: str, values: tuple[object, ...]) -> list[sqlite3.Row]:
        return self._on_sound_file(lambda database: database.rows(query, values))

    def _write(self, change: Callable[[sqlite3.Connection], object]) -> None:
        def write(database: Database) -> None:
            with database.transaction() as to:
                change(to)

        self._on_sound_file(write)

    def _on_sound_file(self, work: Callable[[Database], T]) -> T:
        """Work on the file; if that shows that it is damaged, once more on a blank one."""
        database = self._database
        try:
            return work(database)
        except HostUnfit as error:
            if error.code != DAMAGED:
                raise
            self._replace(database, error)
        return work(self._database)

    def _replace(self, damaged: Database, error: HostUnfit) -> None:
        with self._replacing:
            if self._database is damaged:  # nobody else was faster
                damaged.close()
                self._set_aside(error)
                self._database = self._opened()

    def _opened(self) -> Database:
        try:
            return Database(self._path, _SCHEMA, durable=False)
        except HostUnfit as error:
            if error.code != DAMAGED:
                raise
            self._set_aside(error)
        return Database(self._path, _SCHEMA, durable=False)

    def _set_aside(self, error: HostUnfit) -> None:
        log.error("the history of commands is lost, it is kept as %s: %s", set_aside(self._path).name, error.message)


def _shortened(command: tuple[str, ...]) -> tuple[str, ...]:
    """A command as it is written down: a thousand of the longest that there can be would take half a gigabyte."""
    left = _COMMAND_CHARACTERS
    kept: list[str] = []
    for word in command:
        if len(word) + 1 > left:
            return (*kept, word[: max(0, left - 1)] + "...")
        kept.append(word)
        left -= len(word) + 1
    return command


def _changing(info: ExecInfo) -> tuple[object, ...]:
    return info.status, info.exit_code, info.duration_ms, info.output_bytes


def _remove_oldest(to: sqlite3.Connection, workspace_id: str) -> None:
    to.execute(
        "DELETE FROM execs WHERE workspace_id = ?1 AND status != 'running' AND number <= "
        "(SELECT number FROM execs WHERE workspace_id = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
        (workspace_id, KEPT_COMMANDS),
    )


def _info(row: sqlite3.Row) -> ExecInfo:
    return ExecInfo(
        exec_id=row["exec_id"],
        workspace_id=row["workspace_id"],
        command=tuple(json.loads(row["command"])),
        status=row["status"],
        started_at=row["started_at"],
        exit_code=row["exit_code"],
        duration_ms=row["duration_ms"],
        output_bytes=row["output_bytes"],
    )
