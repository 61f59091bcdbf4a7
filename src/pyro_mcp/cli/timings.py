"""Where the time of a command went, as whoever typed it saw it: from the start of this process."""

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pyro_mcp.cli.streams import tell
from pyro_mcp.phases import PhaseRecorder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyro_mcp.models import Phase

# In their order. One that did not occur is not shown; a second attempt shows its own once more.
_MEANINGS = {
    "client": "this command starts and reads its arguments",
    "daemon": "the daemon is found, or started, and says who it is",
    "request": "the request gets there",
    "host": "the VMM is chosen, and the runtime bundle found unchanged",
    "environment": "the environment is found unchanged, or pulled",
    "disk": "its disk is made",
    "template": "a template is found, or made",
    "turn": "machines that start before it",
    "vmm": "the sandbox is made, and the VMM begins in it",
    "guest": "the guest is restored, or boots, until its agent answers",
    "session": "it is told what machine it is, and a session begins",
    "command": "the command runs",
    "machine_gone": "the machine is taken away",
    "last_output": "what the command wrote last is handed on",
    "delivery": "the end gets here",
    "unfinished": "what was under way when it failed or was interrupted, until that is known here",
}


class Timings:
    """The phases of a command from the start of this process on; the first is under way."""

    def __init__(self) -> None:
        self.recorder = PhaseRecorder(_start_us())

    def take_in(self, phase: "Phase") -> None:
        """This phase went on in the daemon."""
        self.recorder.take_in("request", phase)

    def end(self) -> None:
        """The command has ended."""
        self.recorder.end("delivery")

    @contextlib.contextmanager
    def told_of_failure(self, *, as_json: bool) -> "Iterator[None]":
        """Where this block fails, show the phases as far as they got; with `as_json` as a line, before the error's."""
        try:
            yield
        except BaseException:
            self.recorder.end("unfinished")
            if as_json:
                tell(json.dumps({"timings": self.as_json()}) + "\n")
            else:
                self.show()
            raise

    def show(self) -> None:
        """Print a table on stderr."""
        phases = self.recorder.phases
        rows = [f"{phase.ms:9.1f}  {phase.name:<12}  {_MEANINGS.get(phase.name, '')}".rstrip() for phase in phases]
        tell("\n".join(("       ms  phase", *rows, f"{self._total_ms:9.1f}  in all", "")))

    def as_json(self) -> dict[str, object]:
        """The same for programs."""
        phases = [{"phase": phase.name, "ms": phase.ms} for phase in self.recorder.phases]
        return {"total_ms": self._total_ms, "phases": phases}

    @property
    def _total_ms(self) -> float:
        phases = self.recorder.phases
        return (phases[-1].ended_us - phases[0].began_us) / 1000


def _start_us() -> int:
    """When this process started, to a clock tick (10 ms), in microseconds since the host's boot: proc_pid_stat(5)."""
    # The command name stands in brackets and may hold anything; field 3 is the first behind it, field 22 is the start.
    _, _, fields = Path("/proc/self/stat").read_text().rpartition(")")
    return int(fields.split()[19]) * 1_000_000 // os.sysconf("SC_CLK_TCK")
