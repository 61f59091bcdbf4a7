"""How long work goes on."""

from dataclasses import dataclass

from pyro_mcp.models.event import Event


@dataclass(frozen=True)
class Progress(Event):
    """One step of long work. `done` and `total` count in `unit`; `total` is None where nobody can know it."""

    operation: str
    phase: str
    environment: str
    detail: str = ""
    done: int | None = None
    total: int | None = None
    unit: str = ""
