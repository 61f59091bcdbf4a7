"""The ways in which calls reach the daemon."""

import contextlib
from collections.abc import Callable
from typing import TypeVar

from pyro_mcp import models, sdk
from pyro_mcp.daemon.client import DaemonClient
from pyro_mcp.daemon.gone import DaemonGone

T = TypeVar("T")


class Calls:
    """Part of `Pyro`; it holds nothing but the client."""

    _daemon: DaemonClient

    def _get(self, kind: Callable[[], type[T]], path: str) -> T:
        """Ask for something; `kind` gives its type, which is imported while the daemon works on the answer."""
        answer = self._daemon.ask("GET", path, meanwhile=lambda: (models.decode, kind()))
        return models.decode(kind(), answer)

    def _post(self, kind: type[T], path: str, request: object = None) -> T:
        body = {} if request is None else models.encode(request)
        return models.decode(kind, self._daemon.ask("POST", path, body))

    def _long(self, kind: type[T], path: str, request: object, on_progress: "sdk.OnProgress | None" = None) -> T:
        """A request that reports progress and ends with one result. Leaving it early cancels it."""
        result: T | None = None
        with contextlib.closing(self._daemon.stream(path, models.encode(request))) as events:
            for event in events:
                if isinstance(event, kind):
                    result = event
                elif isinstance(event, models.Progress) and on_progress is not None:
                    on_progress(event)
        if result is None:
            raise DaemonGone
        return result
