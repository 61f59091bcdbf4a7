"""Progress of long work, on stderr: a line a step, or a bar where a person watches."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from pyro_mcp.cli.streams import tell
from pyro_mcp.models import NOTICE, Progress

_BAR_CELLS = 24


@contextlib.contextmanager
def shown_progress() -> Iterator[Callable[[Progress], None]]:
    """Show what is told to the function that this yields for as long as the block lasts."""
    printer = ProgressPrinter()
    try:
        yield printer.show
    finally:
        printer.clear()


class ProgressPrinter:
    """Prints progress for as long as the block lasts.

    Where stderr is a terminal, one line is written over and over and gone at the end; elsewhere each phase gives a
    `[operation] phase=... environment=...` line of its own.
    """

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._last = ""

    def show(self, progress: Progress) -> None:
        """Tell of one step."""
        if progress.phase == NOTICE:
            self.clear()
            tell(f"[{progress.operation}] {progress.detail}\n")
        elif self._on_terminal:
            self._draw(progress)
        else:
            self._print(progress)

    def clear(self) -> None:
        """Take the bar away, so that other output starts on a clean line."""
        if self._on_terminal and self._last:
            tell("\r\x1b[K")
            self._last = ""

    def _print(self, progress: Progress) -> None:
        line = f"[{progress.operation}] phase={progress.phase}"
        if progress.environment:
            line += f" environment={progress.environment}"
        if progress.detail and progress.done is None:
            line += f" detail={progress.detail!r}"
        if line != self._last:
            self._last = line
            tell(f"{line}\n")

    def _draw(self, progress: Progress) -> None:
        parts = [f"{progress.operation} {progress.environment}".rstrip(), progress.phase]
        if progress.done is not None and progress.total:
            share = min(1.0, progress.done / progress.total)
            filled = round(share * _BAR_CELLS)
            parts += [f"[{'#' * filled}{'.' * (_BAR_CELLS - filled)}] {share:4.0%}"]
        if progress.detail:
            parts.append(progress.detail)
        self._last = "  ".join(parts)
        import shutil  # late: commands without long work do not need it

        width = shutil.get_terminal_size().columns - 1
        tell(f"\r{self._last[:width]}\x1b[K")
