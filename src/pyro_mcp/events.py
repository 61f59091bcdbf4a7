"""Events of long requests: what the daemon streams and clients iterate over.

On the wire each event is one frame, tagged as in the guest protocol: output as raw bytes, everything else as a JSON
object with a `type`.
"""

from dataclasses import dataclass

from pyro_mcp import models
from pyro_mcp.errors import DaemonFailed, InvalidRequest, PyroError, WireError, from_wire
from pyro_mcp.models import EnvironmentInfo, Progress, RunAccepted, RunFinished, RunStarted
from pyro_mcp.workspace_models import ExecInfo, ExecResult, ExecStarted, ExportReport, SyncReport, WorkspaceInfo


@dataclass(frozen=True)
class OutputChunk:
    """Some bytes that a command wrote, to `stdout` or `stderr`."""

    stream: str
    data: bytes


RunEvent = RunAccepted | RunStarted | RunFinished
WorkspaceEvent = WorkspaceInfo | ExecStarted | ExecInfo | ExecResult | SyncReport | ExportReport
Event = RunEvent | Progress | EnvironmentInfo | WorkspaceEvent

_TYPES: dict[str, type[Event]] = {
    "accepted": RunAccepted,
    "started": RunStarted,
    "finished": RunFinished,
    "progress": Progress,
    "environment": EnvironmentInfo,
    "workspace": WorkspaceInfo,
    "exec_started": ExecStarted,
    "exec": ExecInfo,
    "exec_result": ExecResult,
    "synced": SyncReport,
    "exported": ExportReport,
}
_NAMES = {kind: name for name, kind in _TYPES.items()}


def event_to_json(event: Event) -> dict[str, object]:
    """An event as a JSON object."""
    return {"type": _NAMES[type(event)], **models.encode(event)}


def error_to_json(error: PyroError) -> dict[str, object]:
    """An error as the last event of a stream."""
    return {"type": "error", **models.encode(error.to_wire())}


def event_from_json(content: dict[str, object]) -> Event:
    """Build an event; an `error` event is raised as the error that it tells of. Raises `DaemonFailed` for rubbish."""
    name = content.get("type")
    fields = {key: value for key, value in content.items() if key != "type"}
    wire: WireError
    try:
        if name != "error":
            return models.decode(_TYPES[str(name)], fields)
        wire = models.decode(WireError, fields)
    except (KeyError, InvalidRequest) as error:
        raise DaemonFailed("daemon_protocol", f"the daemon sent an unknown event: {str(name)[:40]!r}") from error
    raise from_wire(wire)
