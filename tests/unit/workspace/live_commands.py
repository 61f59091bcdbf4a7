"""A command runner with a guest, for tests of the runner."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pyro_mcp.events import Event, OutputChunk
from pyro_mcp.guest.client import GuestClient, connect
from pyro_mcp.workspace.commands import CommandRunner
from pyro_mcp.workspace_models import ExecInfo, ExecRequest
from tests.support.fake_agent import AgentStream, channel, opened, serving
from tests.support.fake_commands import FakeGuest
from tests.support.live_guest import MemoryHistory, live_guest


@dataclass
class Live:
    """A runner with all that it stands on."""

    guest: FakeGuest
    client: GuestClient
    history: MemoryHistory
    runner: CommandRunner
    chunks: list[OutputChunk] = field(default_factory=list)

    async def emit(self, event: Event | OutputChunk) -> None:
        assert isinstance(event, OutputChunk)
        self.chunks.append(event)

    def output(self, stream: str) -> bytes:
        return b"".join(chunk.data for chunk in self.chunks if chunk.stream == stream)

    async def run(self, *command: str, timeout_seconds: int = 60) -> ExecInfo:
        started = await self.runner.start(ExecRequest(command, timeout_seconds))
        return await started.follow(self.emit)


@asynccontextmanager
async def alive(folder: Path) -> AsyncIterator[Live]:
    async with asyncio.timeout(60), live_guest(folder) as (guest, client):
        history = MemoryHistory()
        live = Live(guest, client, history, CommandRunner("w-1", client, history))
        yield live
        await live.runner.close()


SLEEP = ExecRequest(("sleep", "1000"))


@asynccontextmanager
async def bare(handler: Callable[[AgentStream], Awaitable[None]]) -> AsyncIterator[tuple[CommandRunner, MemoryHistory]]:
    """A runner whose guest does as the test says."""
    with channel() as (ours, theirs):
        async with asyncio.timeout(60), serving(theirs, handler), connect(opened(ours), timeout_seconds=30) as client:
            history = MemoryHistory()
            runner = CommandRunner("w-1", client, history)
            yield runner, history
            await runner.close()
