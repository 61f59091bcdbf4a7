"""A guest client whose guest is a fake agent that runs commands and tools in a folder of the host."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from pyro_mcp.errors import NotFound
from pyro_mcp.guest.client import GuestClient, connect
from pyro_mcp.workspace_models import ExecInfo
from tests.support.fake_agent import channel, opened, serving
from tests.support.fake_commands import FakeGuest


class MemoryHistory:
    """A command history that forgets nothing; `writes` is every status of every command, in order."""

    def __init__(self) -> None:
        self.rows: dict[str, ExecInfo] = {}
        self.writes: list[tuple[str, str]] = []

    def add_exec(self, info: ExecInfo) -> None:
        """See `CommandHistory`."""
        assert info.exec_id not in self.rows
        self.rows[info.exec_id] = info
        self.writes.append((info.exec_id, info.status))

    def update_exec(self, info: ExecInfo) -> None:
        """See `CommandHistory`."""
        assert info.exec_id in self.rows
        self.rows[info.exec_id] = replace(info)
        self.writes.append((info.exec_id, info.status))

    def exec(self, workspace_id: str, exec_id: str) -> ExecInfo:
        """See `CommandHistory`."""
        try:
            return next(row for row in self.execs(workspace_id) if row.exec_id == exec_id)
        except StopIteration:
            raise NotFound("unknown_command", f"there is no command {exec_id}") from None

    def execs(self, workspace_id: str, *, running: bool = False) -> tuple[ExecInfo, ...]:
        """See `CommandHistory`."""
        rows = [row for row in self.rows.values() if row.workspace_id == workspace_id]
        return tuple(row for row in rows if row.status == "running" or not running)


@asynccontextmanager
async def session_with(guest: FakeGuest) -> AsyncIterator[GuestClient]:
    """One session with a guest that may have had others before."""
    with channel() as (ours, theirs):
        async with serving(theirs, guest), connect(opened(ours), timeout_seconds=30) as client:
            yield client


@asynccontextmanager
async def live_guest(folder: Path) -> AsyncIterator[tuple[FakeGuest, GuestClient]]:
    """A guest with a session; its commands are ended with the block."""
    guest = FakeGuest(folder)
    try:
        async with session_with(guest) as client:
            yield guest, client
    finally:
        await guest.close()
