"""What is written down of workspaces, and every change of it, each of them one transaction: PYRO_HOME/state.db.

What is lost with it are the names of disks, not the disks: no disk whose workspace is not in here is ever removed, but
for that of a machine that waited to become a workspace's, which has a mark beside it (see `unclaimed`). So a file that
cannot be read, or that a newer pyro has written, is left as it is, and everything that needs it fails and says why.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from pyro_mcp import models
from pyro_mcp.errors import Conflict, HostUnfit, NotFound
from pyro_mcp.process import Detached
from pyro_mcp.workspace.database import NO_SPACE, Database
from pyro_mcp.workspace.record import CREATING, DELETED, PURGED, RUNNING, STOPPED, KeptDisk, WorkspaceRecord, now
from pyro_mcp.workspace.reserve import Reserve
from pyro_mcp.workspace_models import SeedInfo

T = TypeVar("T")
FILE_NAME = "state.db"
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
"""
_PLAIN = (
    *("name", "environment", "digest", "vcpu_count", "mem_mib", "network_policy", "created_at", "vmm", "disk"),
    *("state", "ttl_seconds", "expires_at", "stopped_because", "deleted_at"),
)
_SELECT = """
SELECT workspaces.*, kept_disks.disk AS kept_disk, kept_disks.kept_at AS kept_at
FROM workspaces LEFT JOIN kept_disks ON kept_disks.workspace_id = workspaces.id
"""


class Records:
    """The records of one PYRO_HOME. Every change waits for the disk: make it in a thread. Looking does not."""

    def __init__(self, home: Path) -> None:
        """Raises `HostUnfit`: `state_corrupt`, `state_newer`, `home_unusable`, `no_disk_space`."""
        self._database = Database(home / FILE_NAME, _SCHEMA, durable=True)
        try:
            self._looking = Database(home / FILE_NAME, _SCHEMA, durable=False)
        except BaseException:
            self._database.close()
            raise
        self.reserve = Reserve(home)
        self._remembered: tuple[int, tuple[WorkspaceRecord, ...]] | None = None  # all of a version of the file
        self._tell_removed: Callable[[str], None] = lambda _workspace_id: None

    def close(self) -> None:
        """Let go of the file."""
        self._looking.close()
        self._database.close()

    def when_removed(self, tell: Callable[[str], None]) -> None:
        """Call this with the id of a workspace, in whatever thread, once it is forgotten here; it must not raise."""
        self._tell_removed = tell

    def all(self) -> tuple[WorkspaceRecord, ...]:
        """Every workspace, the purged ones too, oldest first."""
        # Asked for first, so that what is remembered is never older than its version says.
        version = self._looking.version()
        remembered = self._remembered
        if remembered is None or remembered[0] != version:
            remembered = self._remembered = (version, self._found("1", ()))
        return remembered[1]

    def meant_by(self, reference: str) -> tuple[WorkspaceRecord, ...]:
        """Those that have this id or this name, or an id that begins so, but none that is purged."""
        beginning = "substr(workspaces.id, 1, length(?1)) = ?1"
        return self._found(f"(name = ?1 OR {beginning}) AND state != '{PURGED}'", (reference,))

    def get(self, workspace_id: str) -> WorkspaceRecord:
        """One of them. Raises `NotFound`."""
        found = self._found("workspaces.id = ?", (workspace_id,))
        if not found:
            raise _unknown(workspace_id)
        return found[0]

    def add(self, record: WorkspaceRecord) -> None:
        """Write a new one down, with its VMM if it has one. Raises `Conflict` where its name is in use."""
        values = {name: getattr(record, name) for name in _PLAIN} | {
            **_vmm_columns(record.process),
            "id": record.workspace_id,
            "labels": json.dumps(record.labels),
            "seed": _seed_text(record.seed),
        }
        with _unique(record.name), self._database.transaction() as to:
            to.execute(
                f"INSERT INTO workspaces ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})",  # noqa: S608
                tuple(values.values()),
            )

    def describe(self, workspace_id: str, change: Callable[[WorkspaceRecord], WorkspaceRecord]) -> None:
        """Give it the name and the labels that `change` makes of its record as it stands; nothing comes between.

        Raises `NotFound`, `Conflict` where the name is in use, and whatever `change` does.
        """
        with self._database.transaction() as to:
            row = to.execute(f"{_SELECT} WHERE workspaces.id = ? AND state != '{PURGED}'", (workspace_id,)).fetchone()
            if row is None:
                raise _unknown(workspace_id)
            changed = change(_record(row))
            with _unique(changed.name):
                values = (changed.name, json.dumps(changed.labels), workspace_id)
                to.execute("UPDATE workspaces SET name = ?, labels = ? WHERE id = ?", values)

    def seeded(self, workspace_id: str, seed: SeedInfo) -> None:
        """This is what went into it."""
        self._change(workspace_id, {"seed": _seed_text(seed)})

    def starting(self, workspace_id: str, vmm: str, process: Detached) -> None:
        """This is its VMM from now on, though nobody knows yet whether its guest comes up."""
        self._change(workspace_id, {"vmm": vmm, **_vmm_columns(process)})

    def running(self, workspace_id: str, expires_at: str | None, disk: str, *, keep: bool = True) -> None:
        """Its guest answers, and has this disk.

        If that is another one than until now, that one is kept, and the one that was kept is kept no longer; without
        `keep` it is the other way round.
        """
        with self._database.transaction() as to:
            if keep:
                _keep_disk(to, workspace_id, unless=disk)
            to.execute(
                "UPDATE workspaces SET disk = ?, state = ?, stopped_because = NULL, expires_at = ?"
                " WHERE id = ? AND state != ?",
                (disk, RUNNING, expires_at, workspace_id, PURGED),
            )

    def ended(self, workspace_id: str, process: Detached | None = None) -> None:
        """Its VMM (that one, if given) is no more; whether it is to be one again, its state tells."""
        self._surely(lambda: self._change(workspace_id, _vmm_columns(None), process))

    def stopped(self, workspace_id: str, because: str | None, process: Detached | None = None) -> None:
        """Its VMM (that one, if given) is no more, and none is to be."""
        stopped = {**_vmm_columns(None), "expires_at": None, "state": STOPPED, "stopped_because": because}
        self._surely(lambda: self._change(workspace_id, stopped, process, in_states=(RUNNING, STOPPED)))

    def deleted(self, workspace_id: str) -> None:
        """It is deleted, and can be had back for a while."""
        columns = {"state": DELETED, "stopped_because": None, "expires_at": None, "deleted_at": now().isoformat()}
        self._surely(lambda: self._change(workspace_id, {**columns, **_vmm_columns(None)}))

    def undeleted(self, workspace_id: str, *, name: str | None) -> None:
        """It is back, stopped, under this name. Raises `Conflict` where that is in use, `NotFound` where it is gone."""
        columns = {"state": STOPPED, "deleted_at": None, "name": name}
        with _unique(name):
            changed = self._change(workspace_id, columns, in_states=(DELETED,))
        if not changed:
            raise NotFound(
                "unknown_workspace", f"the workspace {workspace_id} is gone", "pyro workspace list --deleted"
            )

    def swap_disks(self, workspace_id: str, *, because: str | None) -> None:
        """Stopped, and with the kept disk again; the present one is kept. Raises `Conflict` where none is kept."""
        self._surely(lambda: self._swap_disks(workspace_id, because))

    def _swap_disks(self, workspace_id: str, because: str | None) -> None:
        with self._database.transaction() as to:
            kept = to.execute("SELECT disk FROM kept_disks WHERE workspace_id = ?", (workspace_id,)).fetchone()
            if kept is None:
                raise nothing_to_restore(workspace_id)
            _keep_disk(to, workspace_id, unless=kept["disk"])
            to.execute(
                "UPDATE workspaces SET disk = ?, state = ?, stopped_because = ?,"
                " vmm_pid = NULL, vmm_start_time = NULL, boot_id = NULL WHERE id = ?",
                (kept["disk"], STOPPED, because, workspace_id),
            )

    def drop_kept(self, workspace_id: str, kept: KeptDisk) -> bool:
        """That disk is kept no longer; False if it was not any more."""
        return self._surely(lambda: self._drop_kept(workspace_id, kept))

    def _drop_kept(self, workspace_id: str, kept: KeptDisk) -> bool:
        with self._database.transaction() as to:
            where = "workspace_id = ? AND disk = ? AND kept_at = ?"
            done = to.execute(f"DELETE FROM kept_disks WHERE {where}", (workspace_id, kept.disk, kept.kept_at))  # noqa: S608
            return done.rowcount > 0

    def purge(self, workspace_id: str, *, in_states: Iterable[str] = (CREATING, DELETED)) -> bool:
        """It is about to be removed for good; False if it is in none of these states (any more)."""
        return self._surely(lambda: self._change(workspace_id, {"state": PURGED}, in_states=in_states))

    def remove(self, workspace_id: str) -> None:
        """Forget a purged one, once its files are gone."""
        self._surely(lambda: self._remove(workspace_id))
        self._tell_removed(workspace_id)

    def _remove(self, workspace_id: str) -> None:
        with self._database.transaction() as to:
            to.execute("DELETE FROM workspaces WHERE id = ? AND state = ?", (workspace_id, PURGED))

    def _surely(self, change: Callable[[], T]) -> T:
        """Write down what has happened already, or what frees room; where the disk is full, with what is reserved."""
        try:
            return change()
        except HostUnfit as error:
            if error.code != NO_SPACE or not self.reserve.give_up():
                raise
        return change()

    def _found(self, which: str, values: tuple[object, ...]) -> tuple[WorkspaceRecord, ...]:
        rows = self._looking.rows(f"{_SELECT} WHERE {which} ORDER BY workspaces.rowid", values)
        return tuple(_record(row) for row in rows)

    def _change(
        self,
        workspace_id: str,
        columns: Mapping[str, object],
        process: Detached | None = None,
        in_states: Iterable[str] = (CREATING, RUNNING, STOPPED, DELETED),
    ) -> bool:
        """Change columns of one record; False if it is in none of the states, or its VMM is not `process`."""
        states = tuple(in_states)
        words = [f"UPDATE workspaces SET {', '.join(f'{name} = ?' for name in columns)}"]  # noqa: S608  (our names)
        words.append(f"WHERE id = ? AND state IN ({', '.join('?' * len(states))})")
        values = (*columns.values(), workspace_id, *states)
        if process is not None:
            words.append("AND vmm_pid = ? AND vmm_start_time = ?")
            values = (*values, process.pid, process.start_time)
        with self._database.transaction() as to:
            return to.execute(" ".join(words), values).rowcount > 0


@contextmanager
def _unique(name: str | None) -> Iterator[None]:
    """Around a change of a name: tells of one that is in use."""
    try:
        yield
    except sqlite3.IntegrityError:
        if name is None:
            raise
        raise name_in_use(name) from None


def _unknown(workspace_id: str) -> NotFound:
    return NotFound("unknown_workspace", f"there is no workspace {workspace_id}", "pyro workspace list")


def name_in_use(name: str) -> Conflict:
    """The error for a name that another workspace has."""
    return Conflict(
        "name_in_use", f"another workspace has the name {name!r}", "choose another name, or rename or delete that one"
    )


def half_removed(workspace_id: str) -> Conflict:
    """The error for a deleted workspace whose removal has begun, and did not come to its end."""
    return Conflict(
        "nothing_to_restore",
        f"{workspace_id} was being removed for good, and its disk is gone",
        "`pyro workspace prune` finishes that",
    )


def nothing_to_restore(workspace_id: str) -> Conflict:
    """The error for a workspace that is not deleted and has no disk from before a reset."""
    return Conflict(
        "nothing_to_restore",
        f"{workspace_id} is not deleted, and no disk from before a reset is kept for it",
        "`pyro workspace list --deleted` shows what can be had back",
    )


def _keep_disk(to: sqlite3.Connection, workspace_id: str, *, unless: str) -> None:
    """Keep its present disk, and no other, unless it is that one."""
    present = to.execute("SELECT disk FROM workspaces WHERE id = ?", (workspace_id,)).fetchone()
    if present is None or present["disk"] == unless:
        return
    to.execute("DELETE FROM kept_disks WHERE workspace_id = ?", (workspace_id,))
    to.execute(
        "INSERT INTO kept_disks (workspace_id, disk, kept_at) VALUES (?, ?, ?)",
        # To the millisecond, as the starts of commands: a reset asks which of the two came first.
        (workspace_id, present["disk"], datetime.now(UTC).isoformat(timespec="milliseconds")),
    )


def _vmm_columns(process: Detached | None) -> dict[str, object]:
    """What names a VMM, or says that there is none."""
    if process is None:
        return {"vmm_pid": None, "vmm_start_time": None, "boot_id": None}
    return {"vmm_pid": process.pid, "vmm_start_time": process.start_time, "boot_id": process.boot_id}


def _seed_text(seed: SeedInfo | None) -> str | None:
    return None if seed is None else json.dumps(models.encode(seed))


def _record(row: sqlite3.Row) -> WorkspaceRecord:
    return WorkspaceRecord(
        workspace_id=row["id"],
        labels=json.loads(row["labels"]),
        seed=None if row["seed"] is None else models.decode(SeedInfo, json.loads(row["seed"])),
        process=None if row["vmm_pid"] is None else Detached(row["vmm_pid"], row["vmm_start_time"], row["boot_id"]),
        kept=None if row["kept_disk"] is None else KeptDisk(row["kept_disk"], row["kept_at"]),
        **{name: row[name] for name in _PLAIN},
    )
