"""The commands that ran in workspaces, as far as they are written down: the newest of each."""

import json
import sqlite3
from pathlib import Path

from pyro_mcp.errors import NotFound
from pyro_mcp.workspace.database import Database
from pyro_mcp.workspace_models import ExecInfo

KEPT_COMMANDS = 1_000  # of each workspace
# How many more may be there until the oldest are removed, which costs more than to add one.
_SLACK = 64


class History:
    """`commands.CommandHistory` in the database of one PYRO_HOME; no call waits for the disk."""

    def __init__(self, home: Path) -> None:
        """Raises `HostUnfit`, as `Records` does."""
        self._database = Database(home, durable=False)
        self._added = 0

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def checkpoint(self) -> None:
        """Bring the database's log down; waits for the disk."""
        self._database.checkpoint()

    def add_exec(self, info: ExecInfo) -> None:
        """A new command. Raises `ValueError` for an id that its workspace has had."""
        values = (info.workspace_id, info.exec_id, json.dumps(info.command), info.started_at, *_changing(info))
        try:
            with self._database.transaction() as to:
                to.execute(
                    "INSERT INTO execs (workspace_id, exec_id, command, started_at,"
                    " status, exit_code, duration_ms, output_bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    values,
                )
                self._added += 1
                if self._added % _SLACK == 0:
                    _remove_oldest(to, info.workspace_id)
        except sqlite3.IntegrityError:
            raise ValueError(f"{info.workspace_id} has a command {info.exec_id}, or is gone") from None

    def update_exec(self, info: ExecInfo) -> None:
        """How a command stands now; nothing happens if it is not written down any more."""
        with self._database.transaction() as to:
            to.execute(
                "UPDATE execs SET status = ?, exit_code = ?, duration_ms = ?, output_bytes = ?"
                " WHERE workspace_id = ? AND exec_id = ?",
                (*_changing(info), info.workspace_id, info.exec_id),
            )

    def exec(self, workspace_id: str, exec_id: str) -> ExecInfo:
        """One command. Raises `NotFound`."""
        query = "SELECT * FROM execs WHERE workspace_id = ? AND exec_id = ?"
        rows = self._database.rows(query, (workspace_id, exec_id))
        if not rows:
            raise NotFound(
                "unknown_command",
                f"{workspace_id} has no command {exec_id[:40]!r}, or has had {KEPT_COMMANDS} since",
                f"pyro workspace logs {workspace_id}",
            )
        return _info(rows[0])

    def execs(self, workspace_id: str, *, running: bool = False) -> tuple[ExecInfo, ...]:
        """The newest commands, or those that run, oldest first."""
        only = "AND status = 'running'" if running else ""
        query = f"SELECT * FROM execs WHERE workspace_id = ? {only} ORDER BY number DESC LIMIT {KEPT_COMMANDS}"  # noqa: S608
        return tuple(_info(row) for row in reversed(self._database.rows(query, (workspace_id,))))

    def lost(self, workspace_id: str) -> None:
        """Whatever ran in it went down with its machine."""
        with self._database.transaction() as to:
            where = "workspace_id = ? AND status = 'running'"
            to.execute(f"UPDATE execs SET status = 'lost' WHERE {where}", (workspace_id,))  # noqa: S608

    def counts(self, workspace_id: str | None = None) -> dict[str, tuple[int, int]]:
        """How many commands each workspace, or that one, has in here, and how many of them run."""
        added = self._count("1", workspace_id)
        running = self._count("status = 'running'", workspace_id)
        return {each: (min(count, KEPT_COMMANDS), running.get(each, 0)) for each, count in added.items()}

    def _count(self, which: str, workspace_id: str | None) -> dict[str, int]:
        here, values = ("workspace_id = ?", (workspace_id,)) if workspace_id is not None else ("1", ())
        query = f"SELECT workspace_id, count(*) AS count FROM execs WHERE {which} AND {here} GROUP BY workspace_id"  # noqa: S608
        return {row["workspace_id"]: row["count"] for row in self._database.rows(query, values)}


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
