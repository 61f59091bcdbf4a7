"""A disk on which a database can write only once something else on it has been removed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection
from typing import Any

import pytest

from pyro_mcp.workspace import database
from pyro_mcp.workspace.database import Database, no_space
from pyro_mcp.workspace.reserve import FILE_NAME as RESERVE


class FullDisk:
    """The disk of a PYRO_HOME from now on; `fill` takes what has become free since."""

    def __init__(self, home: Path, patch: pytest.MonkeyPatch) -> None:
        self._home = home
        self.fill()
        transaction, connect = Database.transaction, database._connect

        @contextmanager
        def begun(of: Database) -> Iterator[Connection]:
            self._check(of._path)
            with transaction(of) as connection:
                yield connection

        def connected(path: Path, **options: Any) -> Any:
            self._check(path)
            return connect(path, **options)

        patch.setattr(Database, "transaction", begun)
        patch.setattr(database, "_connect", connected)

    def fill(self) -> None:
        """Somebody else writes to it until it is full."""
        self._taken = self._sizes()

    def _check(self, path: Path) -> None:
        if self._sizes() >= self._taken:
            raise no_space(path, self._home)

    def _sizes(self) -> int:
        files = (self._home / RESERVE, *self._home.glob("workspaces/*/*.ext4"))
        return sum(file.stat().st_blocks for file in files if file.exists())
