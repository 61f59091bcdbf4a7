"""Who wants to know how long work goes on."""

from typing import Protocol

from pyro_mcp.models import Progress


class OnProgress(Protocol):
    """Called with each step, in the thread that made the call."""

    def __call__(self, progress: Progress, /) -> None:
        """One step."""
