"""When workspaces' time limits are up."""

import asyncio
from collections.abc import Callable
from datetime import datetime

from pyro_mcp.workspace.record import now


class Deadlines:
    """One deadline for each workspace that has one; `on_deadline` is called with its id when it is reached."""

    def __init__(self, on_deadline: Callable[[str], None]) -> None:
        self._on_deadline = on_deadline
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def set(self, workspace_id: str, expires_at: str | None) -> None:
        """Its deadline from now on, a written time; None: it has none. One in the past is reached at once."""
        if expires_at is None:
            self._cancel(workspace_id)
        else:
            self.set_in(workspace_id, max(0.0, (datetime.fromisoformat(expires_at) - now()).total_seconds()))

    def set_in(self, workspace_id: str, seconds: float) -> None:
        """Its deadline is so many seconds from now."""
        self._cancel(workspace_id)
        self._timers[workspace_id] = asyncio.get_running_loop().call_later(seconds, self._reached, workspace_id)

    def close(self) -> None:
        """No deadline counts any more."""
        for workspace_id in list(self._timers):
            self._cancel(workspace_id)

    def _cancel(self, workspace_id: str) -> None:
        timer = self._timers.pop(workspace_id, None)
        if timer is not None:
            timer.cancel()

    def _reached(self, workspace_id: str) -> None:
        del self._timers[workspace_id]
        self._on_deadline(workspace_id)
