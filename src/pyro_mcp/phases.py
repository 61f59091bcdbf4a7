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
    from collections.abc import Iterator, Sequence

    from pyro_mcp.models import Phase


class PhaseRecorder:
    """Phases since `began_us` (see `Phase`), or since now."""

    def __init__(self, began_us: int | None = None) -> None:
        self._last_us = now_us() if began_us is None else began_us
        self._phases: list[Phase] = []

    @property
    def phases(self) -> "tuple[Phase, ...]":
        """Those that have ended."""
        return tuple(self._phases)

    def end(self, name: str, at_us: int | None = None) -> None:
        """What went on since the last phase's end was the phase of this name; it ended now, or at a moment given."""
        at_us = now_us() if at_us is None else at_us
        self._phases.append(models.Phase(name, self._last_us, at_us))
        self._last_us = at_us

    def take_in(self, name: str, phases: "Sequence[Phase]") -> None:
        """Phases that somebody else recorded since then; `name` is what it took until the first of them began."""
        if phases:
            self.end(name, phases[0].began_us)
            self._phases += phases
            self._last_us = phases[-1].ended_us


_recorder: ContextVar[PhaseRecorder | None] = ContextVar("recorder", default=None)


def ended(name: str) -> None:
    """Say that a phase has ended."""
    recorder = _recorder.get()
    if recorder is not None:
        recorder.end(name)


def recorded() -> "tuple[Phase, ...]":
    """The phases so far of the request at work here; none where nobody wants them."""
    recorder = _recorder.get()
    return () if recorder is None else recorder.phases


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
