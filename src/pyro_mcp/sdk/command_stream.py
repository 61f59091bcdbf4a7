"""A command under way, followed as it happens."""

import contextlib
import copy
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import ClassVar, Self

from pyro_mcp import models
from pyro_mcp.daemon.client import DaemonClient
from pyro_mcp.daemon.gone import DaemonGone
from pyro_mcp.events import Event, OutputChunk


class CommandStream:
    """A command under way: iterate over it for its events, from another thread give it input and signals.

    Leaving it (`close`, or the end of a `with` block) before the end ends the command.
    """

    _END: ClassVar[type[Event]]
    _WHEN_GONE: ClassVar[str]  # what to do about a daemon that has ended

    def __init__(self, daemon: DaemonClient, path: str, request: object) -> None:
        self._daemon = daemon
        self._events = daemon.stream(path, models.encode(request))
        self._path = ""

    def __iter__(self) -> Iterator[Event | OutputChunk]:
        """Events in order up to the last one, which tells of the end.

        Raises `PyroError`; output that is not read holds the command back.
        """
        finished = False
        with contextlib.suppress(DaemonGone):  # told below
            for event in self._events:
                self._learn(event)
                finished = isinstance(event, self._END)
                yield event
        if not finished:
            raise DaemonGone(self._WHEN_GONE)

    def signal(self, number: int) -> None:
        """Send a signal (1 to 64) to the command's process group. Raises `NotFound` when it has ended."""
        self._daemon.ask("POST", f"{self._path}/signal", models.encode(models.SignalRequest(number)))

    def send_input(self, parts: Iterable[bytes]) -> None:
        """Give the command its input, part by part as `parts` yields them, and end it; returns when all is taken."""
        self._daemon.upload(f"{self._path}/stdin", parts)

    def _over(self, daemon: DaemonClient) -> Self:
        """The same command, whose signals and input go through another client of the same daemon."""
        other = copy.copy(self)
        other._daemon = daemon
        return other

    def cancel(self) -> None:
        """From another thread: end the command; whoever iterates over the stream gets `DaemonFailed`."""
        self._events.cancel()

    def close(self) -> None:
        """End the command if it has not ended."""
        self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _learn(self, event: Event | OutputChunk) -> None:
        """Take from the first event what signals and input are addressed to."""
        raise NotImplementedError
