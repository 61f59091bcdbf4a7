"""The server's two ends of the chat host: lines in, lines out, and nothing else on stdout.

Standard library only, and little of it: this is on the way to the first answer.
"""

import os
import queue
import sys
import threading
from typing import Protocol

_READ_BYTES = 64 * 1024
# Longer than any message that makes sense: files of 8 MiB, escaped. What is longer is not kept in memory.
_LINE_BYTES = 64 << 20
_FLUSH_SECONDS = 2.0


class Lines(Protocol):
    """Where messages come from, one a line."""

    def next(self) -> bytes | None: ...


class LineReader:
    """Lines of a descriptor, one at a time; blocks. A line that is too long to be a message is left out."""

    def __init__(self, fd: int, limit: int = _LINE_BYTES) -> None:
        self._fd = fd
        self._limit = limit
        self._parts: list[bytes] = []  # of a line whose end has not come yet
        self._held = 0
        self._lines: list[bytes] = []  # whole ones, the next one last
        self._ended = False

    def next(self) -> bytes | None:
        """The next line without its end, or None when the other side has closed."""
        while not self._lines:
            if self._ended:
                return None
            data = os.read(self._fd, _READ_BYTES)
            if data:
                self._take(data)
            else:
                self._ended = True
                self._finish_line()
        return self._lines.pop()

    def _take(self, data: bytes) -> None:
        *ended, rest = data.split(b"\n")
        for part in ended:
            self._hold(part)
            self._finish_line()
        self._lines.reverse()
        self._hold(rest)

    def _hold(self, part: bytes) -> None:
        self._held += len(part)
        if self._held <= self._limit:
            self._parts.append(part)
        else:
            self._parts.clear()

    def _finish_line(self) -> None:
        line = b"".join(self._parts).strip()
        if self._held > self._limit:
            print(f"pyro: left out a message of {self._held} bytes", file=sys.stderr, flush=True)
        elif line:
            self._lines.append(line)
        self._parts.clear()
        self._held = 0


class LineWriter:
    """Writes messages in a thread of its own, so that a chat host that does not read holds up nothing else."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="mcp-writer", daemon=True)
        self._thread.start()

    def write(self, message: bytes) -> None:
        """Have a message written, with the end of its line; returns at once."""
        self._queue.put(message + b"\n")

    def close(self) -> None:
        """Write what is left, for as long as somebody can be expected to read it."""
        self._queue.put(None)
        self._thread.join(_FLUSH_SECONDS)

    def _run(self) -> None:
        try:
            while (data := self._queue.get()) is not None:
                write_all(self._fd, data)
        except OSError:
            return  # the chat host is gone; the end of its other direction ends the server


def write_all(fd: int, data: bytes) -> None:
    """Write all of it. Raises `OSError`."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def claim() -> tuple[int, int]:
    """Take stdin and stdout away from everybody else in this process, and return them as two other descriptors.

    What a library or a child reads from stdin is nothing from now on, and what it prints goes to stderr.
    """
    wire_in, wire_out = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return wire_in, wire_out
