"""The guest's real agent, as a process of this host: the protocol's other end, without a machine around it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pyro_mcp
from pyro_mcp.process import spawn
from tests.support.waiting import wait_until

AGENT = Path(pyro_mcp.__file__).parents[2] / "build/cargo/x86_64-unknown-linux-gnu/release/pyro-agent"


@dataclass(frozen=True)
class AgentFolders:
    """Where an agent has its workspace, the layers that a diff compares, its state, and its socket."""

    workspace: Path
    upper: Path
    lower: Path
    state: Path
    socket: Path


def _answers(path: Path) -> bool:
    """Whether somebody listens; the agent takes this for a host that goes at once."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


@asynccontextmanager
async def real_agent(folder: Path) -> AsyncIterator[AgentFolders]:
    """An agent that serves one session after the other on a Unix socket; it and its commands end with the block.

    Its workspace is no overlay: a test that wants a diff puts files into `upper` and `lower`.
    """
    assert AGENT.exists(), "the guest agent is not built: make agent"
    folders = AgentFolders(*(folder / name for name in ("workspace", "upper", "lower", "state", "agent.sock")))
    for path in (folders.workspace, folders.upper, folders.lower, folders.state):
        path.mkdir()
    options = ("listen", folders.socket), ("workspace", folders.workspace), ("state", folders.state)
    layers = ("upper", folders.upper), ("lower", folders.lower)
    words = [word for name, path in (*options, *layers) for word in (f"--{name}", str(path))]
    process = spawn([str(AGENT), "serve", *words])
    try:
        await asyncio.to_thread(wait_until, lambda: _answers(folders.socket))
        yield folders
    finally:
        await process.stop()
