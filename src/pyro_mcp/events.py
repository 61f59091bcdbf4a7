"""Events of long requests: what the daemon streams and clients iterate over.

On the wire each event is one frame, tagged as in the guest protocol: output as raw bytes, everything else as a JSON
object with a `type`.
"""

from dataclasses import dataclass

from pyro_mcp import models, workspace_models
from pyro_mcp.errors import DaemonFailed, InvalidRequest, PyroError, WireError, from_wire
from pyro_mcp.models.event import Event

__all__ = ("Event", "OutputChunk", "error_to_json", "event_from_json", "event_to_json")


@dataclass(frozen=True)
class OutputChunk:
    """Some bytes that a command wrote, to `stdout` or `stderr`."""

    stream: str
    data: bytes


# By name alone: a client that follows a command should not wait for what only an export says (see `pyro_mcp.late`).
_KINDS = {
    "accepted": (models, "RunAccepted"),
    "started": (models, "RunStarted"),
    "finished": (models, "RunFinished"),
    "progress": (models, "Progress"),
    "phase": (models, "Phase"),
    "environment": (models, "EnvironmentInfo"),
    "workspace": (workspace_models, "WorkspaceInfo"),
    "exec_started": (workspace_models, "ExecStarted"),
    "exec": (workspace_models, "ExecInfo"),
    "exec_result": (workspace_models, "ExecResult"),
    "synced": (workspace_models, "SyncReport"),
    "exported": (workspace_models, "ExportReport"),
}
_TYPES = {kind: name for name, (_, kind) in _KINDS.items()}


def event_to_json(event: Event) -> dict[str, object]:
    """An event as a JSON object."""
    return {"type": _TYPES[type(event).__name__], **models.encode(event)}


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
            return models.decode(_kind(str(name)), fields)
        wire = models.decode(WireError, fields)
    except (KeyError, InvalidRequest) as error:
        raise DaemonFailed("daemon_protocol", f"the daemon sent an unknown event: {str(name)[:40]!r}") from error
    raise from_wire(wire)


def _kind(name: str) -> type[Event]:
    package, kind = _KINDS[name]
    found: type[Event] = getattr(package, kind)
    return found
