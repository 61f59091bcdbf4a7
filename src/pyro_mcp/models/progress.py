"""How long work goes on."""

from dataclasses import dataclass

from pyro_mcp.models.event import Event

NOTICE = "notice"  # a phase that is no step of the work, but something to know about it


@dataclass(frozen=True)
class Progress(Event):
    """One step of long work. `done` and `total` count in `unit`; `total` is None where nobody can know it.

    Where `phase` is `NOTICE`, `detail` is something that its user should know about the work.
    """

    operation: str
    phase: str
    environment: str
    detail: str = ""
    done: int | None = None
    total: int | None = None
    unit: str = ""
