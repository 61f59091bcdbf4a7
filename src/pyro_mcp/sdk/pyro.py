"""`Pyro`: every call, from one object."""

from types import TracebackType
from typing import Self

from pyro_mcp.config import Settings
from pyro_mcp.daemon.client import DaemonClient
from pyro_mcp.sdk.commands import CommandCalls
from pyro_mcp.sdk.environments import EnvironmentCalls
from pyro_mcp.sdk.files import FileCalls
from pyro_mcp.sdk.runs import RunCalls
from pyro_mcp.sdk.workspaces import WorkspaceCalls


class Pyro(RunCalls, EnvironmentCalls, WorkspaceCalls, CommandCalls, FileCalls):
    """Runs commands in microVMs, through a daemon that it starts when needed.

    `settings` are read from the environment unless given. A `Pyro` may be shared by threads. Closing it closes what it
    keeps open between calls and leaves workspaces running: they are found again by name. It can be used again after
    that.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self._daemon = DaemonClient(settings or Settings.from_environment())

    @classmethod
    def _over(cls, daemon: DaemonClient) -> Self:
        """A `Pyro` that shares a client, and with it the client's connections."""
        pyro = cls.__new__(cls)
        pyro._daemon = daemon
        return pyro

    def close(self) -> None:
        """Close idle connections to the daemon. Calls under way in other threads go on."""
        self._daemon.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
