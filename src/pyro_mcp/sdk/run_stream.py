"""A command in a throwaway VM, followed as it happens."""

from pyro_mcp.daemon.client import DaemonClient
from pyro_mcp.events import Event, OutputChunk
from pyro_mcp.models import RunAccepted, RunFinished, RunRequest
from pyro_mcp.sdk.command_stream import CommandStream


class RunStream(CommandStream):
    """A command in a throwaway VM: `RunAccepted`, `Progress`, `RunStarted`, output, and last `RunFinished`.

    Where the request asks for `timings`, there is a `Phase` between them whenever one has ended.
    """

    _END = RunFinished
    _WHEN_GONE = "run it again: its machine ended with the daemon"

    def __init__(self, daemon: DaemonClient, request: RunRequest) -> None:
        super().__init__(daemon, "/v1/runs", request)

    def _learn(self, event: Event | OutputChunk) -> None:
        if isinstance(event, RunAccepted):
            self._path = f"/v1/runs/{event.run_id}"
