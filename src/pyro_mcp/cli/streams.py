"""The three standard streams, whatever state the command line was started with them in.

Imported by everything that `pyro` does, `--version` too: it stands on `os` and `sys` alone.
"""

import os
import sys

TYPE_CHECKING = False  # as in `pyro_mcp`
if TYPE_CHECKING:
    from typing import TextIO

_NAMES = ("stdin", "stdout", "stderr")


def ensure_open() -> None:
    """Put /dev/null where a shell closed a stream (`2>&-`).

    Without that the next file that is opened would get the stream's number, and be written to in the stream's stead.
    """
    for number, name in enumerate(_NAMES):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is taken, and those below are open by now.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115


def tell(text: str) -> None:
    """Write to stderr at once. Where that fails nobody could be told, so it changes nothing."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        silence(sys.stderr)


def silence(stream: "TextIO") -> None:
    """Point a stream that cannot be written away, so that the interpreter's last flush of it succeeds."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
