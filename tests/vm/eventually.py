"""Waiting for what another process does, with a bound."""

import time
from collections.abc import Callable


def eventually(what: Callable[[], object], seconds: float = 20.0) -> None:
    """Return when `what()` is true; fail when it is not within the time given."""
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)
