"""A guest's command as seen from a terminal: its output to our own stdout and stderr, our input and signals to it."""

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from pyro_mcp.cli.progress import ProgressPrinter
from pyro_mcp.cli.signals import told_of
from pyro_mcp.cli.streams import silence, tell
from pyro_mcp.errors import DaemonFailed, Interrupted, PyroError
from pyro_mcp.events import OutputChunk
from pyro_mcp.models import Phase, Progress, RunFinished, RunStarted
from pyro_mcp.sdk.command_stream import CommandStream
from pyro_mcp.workspace_models import ExecInfo, ExecStarted

End = TypeVar("End", bound=RunFinished | ExecInfo)

_FORWARDED = (signal.SIGINT, signal.SIGTERM)
_ABANDON_AFTER = 3  # interrupts: a command that ignores two of them is given up
_INPUT_BYTES = 64 * 1024


class RunSession(Generic[End]):
    """Follows one command to its end, which an event of the type `end` tells of.

    With `keep_output` the output is kept for `result` instead of being passed on. `on_phase` hears of phases, where
    the command's request asks for them.
    """

    def __init__(
        self, run: CommandStream, end: type[End], *, keep_output: bool, on_phase: Callable[[Phase], None] | None = None
    ) -> None:
        self._run = run
        self._end = end
        self._kept: dict[str, bytearray] | None = (
            {"stdout": bytearray(), "stderr": bytearray()} if keep_output else None
        )
        self._on_phase = on_phase
        self._printer = ProgressPrinter()
        self._started = False
        self._interrupts = 0
        self._given_up: int | None = None

    def follow(self) -> End:
        """Pass everything on until the command ends. Raises `PyroError`, and `Interrupted` when the user gives up."""
        with told_of(_FORWARDED, self._on_signal), self._run:
            try:
                return self._follow()
            except DaemonFailed:
                if self._given_up is None:
                    raise
                exit_code = 128 + self._given_up
                raise Interrupted("interrupted", "interrupted before the command's end", exit_code=exit_code) from None
            finally:
                self._printer.clear()

    def _follow(self) -> End:
        for event in self._run:
            if isinstance(event, OutputChunk):
                self._take_output(event)
            elif isinstance(event, Progress):
                self._printer.show(event)
            elif isinstance(event, Phase):
                if self._on_phase is not None:
                    self._on_phase(event)
            elif isinstance(event, RunStarted | ExecStarted):
                self._begin_input()
            elif isinstance(event, self._end):
                return event
        raise AssertionError("a command's events end with its end or an error")

    def result(self, finished: End) -> dict[str, object]:
        """All of it for `--json`; bytes that are not UTF-8 are shown as replacement characters."""
        kept = self._kept or {}
        output = {name: data.decode(errors="replace") for name, data in kept.items()}
        return {**vars(finished), **output}

    def _take_output(self, chunk: OutputChunk) -> None:
        if self._kept is not None:
            self._kept[chunk.stream] += chunk.data
        else:
            self._pass_on(chunk)

    def _pass_on(self, chunk: OutputChunk) -> None:
        if chunk.stream == "stdout":
            _write_all(sys.stdout.fileno(), chunk.data)
            return
        try:
            _write_all(sys.stderr.fileno(), chunk.data)
        except BrokenPipeError:
            raise
        except OSError:
            silence(sys.stderr)  # a full disk there: nobody could be told, and the command's result still counts

    def _begin_input(self) -> None:
        self._printer.clear()
        self._started = True
        # A daemon thread: it may sit in a read that never returns, and must not keep the process alive.
        threading.Thread(target=self._send_input, daemon=True).start()

    def _send_input(self) -> None:
        # The command may end before it has read its input; that is no error.
        with contextlib.suppress(PyroError, OSError):
            self._run.send_input(_read_all(sys.stdin))

    def _on_signal(self, number: int) -> None:
        self._interrupts += number == signal.SIGINT
        if not self._started or self._interrupts >= _ABANDON_AFTER:
            self._given_up = number
            self._run.cancel()
        else:
            if number == signal.SIGINT and self._interrupts == _ABANDON_AFTER - 1:
                tell("pyro: interrupt once more to give the command up\n")
            # Not from here: a guest that does not answer must not hold up the interrupt that gives it up.
            threading.Thread(target=self._forward, args=(number,), daemon=True).start()

    def _forward(self, number: int) -> None:
        # The command may have ended just now.
        with contextlib.suppress(PyroError, OSError):
            self._run.signal(number)


def _read_all(stream: object) -> Iterator[bytes]:
    if stream is None:
        return
    descriptor = sys.stdin.fileno()
    while True:
        try:
            data = os.read(descriptor, _INPUT_BYTES)
        except BlockingIOError:
            select.select([descriptor], [], [])
            continue
        if not data:
            return
        yield data


def _write_all(descriptor: int, data: bytes) -> None:
    """Write everything, also where somebody made the descriptor non-blocking. Raises `BrokenPipeError`."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            select.select([], [descriptor], [])
