"""A command in a workspace, followed as it happens."""

from pyro_mcp.daemon.client import DaemonClient
from pyro_mcp.events import Event, OutputChunk
from pyro_mcp.sdk.addresses import exec_path, workspace_path
from pyro_mcp.sdk.command_stream import CommandStream
from pyro_mcp.workspace_models import ExecInfo, ExecRequest, ExecStarted


class ExecStream(CommandStream):
    """A command in a workspace: `ExecStarted`, output, and last `ExecInfo`. `exec_id` is empty before its start.

    First of all a `Progress` whose phase is `notice`, if the machine had ended and was started again for it.
    """

    _END = ExecInfo
    _WHEN_GONE = "if the command had started it goes on: see `pyro workspace logs W`"

    def __init__(self, daemon: DaemonClient, workspace: str, request: ExecRequest) -> None:
        super().__init__(daemon, workspace_path(workspace, "/execs"), request)
        self.exec_id = ""
        self._workspace = workspace

    def _learn(self, event: Event | OutputChunk) -> None:
        if isinstance(event, ExecStarted):
            self.exec_id = event.exec_id
            self._path = exec_path(self._workspace, event.exec_id)
