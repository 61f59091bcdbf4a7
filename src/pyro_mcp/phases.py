"""Where the time of a request goes: its phases, one after the other without a gap, for whoever asks.

The code that a request passes through says where a phase ends (`ended`). It says so to the recorder of the request that
it works for, and to nobody where none is wanted.
"""

import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from pyro_mcp import models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyro_mcp.models import Phase


class PhaseRecorder:
    """Phases since `began_us` (see `Phase`), or since now; `on_end` is called whenever one has ended."""

    def __init__(self, began_us: int | None = None, on_end: "Callable[[], None] | None" = None) -> None:
        self._last_us = now_us() if began_us is None else began_us
        self._phases: list[Phase] = []
        self._told = 0
        self._on_end = on_end

    @property
    def phases(self) -> "tuple[Phase, ...]":
        """Those that have ended."""
        return tuple(self._phases)

    def news(self) -> "tuple[Phase, ...]":
        """Those that have ended since this was asked last."""
        told, self._told = self._told, len(self._phases)
        return tuple(self._phases[told:])

    def end(self, name: str, at_us: int | None = None) -> None:
        """What went on since the last phase's end was the phase of this name; it ended now, or at a moment given."""
        at_us = now_us() if at_us is None else at_us
        self._add(models.Phase(name, self._last_us, at_us))

    def take_in(self, name: str, phase: "Phase") -> None:
        """A phase that somebody else recorded; `name` is what it took until that began, if it began later."""
        if phase.began_us != self._last_us:
            self.end(name, phase.began_us)
        self._add(phase)

    def _add(self, phase: "Phase") -> None:
        self._phases.append(phase)
        self._last_us = phase.ended_us
        if self._on_end is not None:
            self._on_end()


_recorder: ContextVar[PhaseRecorder | None] = ContextVar("recorder", default=None)


def ended(name: str) -> None:
    """Say that a phase has ended."""
    recorder = _recorder.get()
    if recorder is not None:
        recorder.end(name)


@contextmanager
def recording(recorder: PhaseRecorder | None) -> "Iterator[None]":
    """Let this one hear of the phases that end in this block; None: nobody."""
    token = _recorder.set(recorder)
    try:
        yield
    finally:
        _recorder.reset(token)


def now_us() -> int:
    """The time as all processes of this host tell it, in microseconds since its boot."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
