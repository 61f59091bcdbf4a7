"""Signals of a command line, told to a thread of their own."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence

# How long the end of a block waits for what is being told; whoever is told may be held up by a reader of our output.
_LAST_SECONDS = 1.0


@contextlib.contextmanager
def told_of(numbers: Sequence[signal.Signals], on_signal: Callable[[int], None]) -> Iterator[None]:
    """Call `on_signal` for each of these signals that comes while the block runs, in a thread of its own.

    A handler written in Python would run in the main thread, and only once that thread leaves a system call: a signal
    that comes just before the main thread begins to wait for output would be lost until output comes. A signal that our
    parent had us ignore, as shells do for what they start in the background, stays ignored.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    previous_writer = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    wanted = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, _nothing) for number in wanted}
    telling = threading.Thread(target=_tell, args=(reader, on_signal), daemon=True)
    telling.start()
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(previous_writer)
        os.close(writer)
        telling.join(_LAST_SECONDS)


def _tell(reader: int, on_signal: Callable[[int], None]) -> None:
    while number := os.read(reader, 1):
        on_signal(number[0])
    os.close(reader)


def _nothing(_number: int, _frame: object) -> None:
    """The interpreter writes to the wake-up descriptor only for signals that have a handler."""
