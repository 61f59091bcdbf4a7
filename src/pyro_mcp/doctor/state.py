"""The workspaces that are written down: can this pyro read what is written?"""

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from pyro_mcp.config import Settings
from pyro_mcp.doctor.report import Row, failed, passed
from pyro_mcp.errors import HostUnfit
from pyro_mcp.workspace.database import UNUSABLE
from pyro_mcp.workspace.record import DELETED, PURGED, WorkspaceRecord
from pyro_mcp.workspace.records import FILE_NAME, Records

NAME = "workspaces"
_LOOKS = 4
_PAUSE_SECONDS = 0.1


async def examine(settings: Settings) -> Row:
    return await asyncio.to_thread(_examine, settings.home)


def _examine(home: Path) -> Row:
    file = home / FILE_NAME
    # A command that finds the file to be none that it can use says to ask the doctor, which is no mend here.
    replace_it = f"make {file} a file that you can read and write, put a good copy in its place, or move it away"
    try:
        return row_for(_written_down(home) if _is_there(file) else ())
    except HostUnfit as error:
        return failed(NAME, error.message, replace_it if error.code == UNUSABLE else error.hint or replace_it)
    except OSError as error:
        return failed(NAME, f"{file} cannot be read: {error.strerror or error}", replace_it)


def row_for(records: Sequence[WorkspaceRecord]) -> Row:
    """The row for what is written down, which can be read."""
    deleted = sum(record.state == DELETED for record in records)
    there = sum(record.state != PURGED for record in records) - deleted
    counted = {0: "none is", 1: "1 is"}.get(there, f"{there} are")
    restorable = f", and {deleted} deleted that can be had back" if deleted else ""
    return passed(NAME, f"{counted} written down{'' if there or deleted else ' yet'}{restorable}")


def _is_there(file: Path) -> bool:
    """Whether there is one. Raises `OSError` where that cannot be told."""
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _written_down(home: Path) -> Sequence[WorkspaceRecord]:
    """Every workspace of this home. Raises as `Records`, and `OSError`."""
    for _ in range(_LOOKS - 1):
        # A daemon may have written while the file was copied, which makes a copy look damaged.
        with contextlib.suppress(HostUnfit):
            return _in_a_copy(home)
        time.sleep(_PAUSE_SECONDS)
    return _in_a_copy(home)


def _in_a_copy(home: Path) -> Sequence[WorkspaceRecord]:
    """The same, once. SQLite would lock the file itself, and make others beside it, to read it."""
    with tempfile.TemporaryDirectory(prefix="pyro-doctor-") as folder:
        copy = Path(folder)
        # The log first: what it holds may have moved into the file when that is copied, but not the other way round.
        for name in (f"{FILE_NAME}-wal", FILE_NAME):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(home / name, copy / name)
        try:
            with contextlib.closing(Records(copy)) as records:
                return records.all()
        except HostUnfit as error:
            raise _told_of(home, copy, error) from error


def _told_of(home: Path, copy: Path, error: HostUnfit) -> HostUnfit:
    """What was found of the copy, said of what was copied."""
    hint = None if error.hint is None else error.hint.replace(str(copy), str(home))
    return HostUnfit(error.code, error.message.replace(str(copy), str(home)), hint)
