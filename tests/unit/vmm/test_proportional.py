"""What processes take of the host's memory, by real processes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pyro_mcp.process_watch import Detached, start_time
from pyro_mcp.vmm import proportional

_HELD = 24 << 20  # bytes
# Holds memory that it has written to, and says so.
_HOLD = f"import sys; held = bytearray(b'x') * {_HELD}; print('held', flush=True); sys.stdin.read()"
_BELOW = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', sys.argv[1]]))"


@contextmanager
def running(*words: str) -> Iterator[Detached]:
    """A process that has said something and goes on until the block ends."""
    with subprocess.Popen([sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield detached(process.pid)


def detached(pid: int) -> Detached:
    began = start_time(pid)
    assert began is not None
    return Detached(pid, began)


def test_what_a_process_below_holds_counts() -> None:
    with running("-c", _HOLD) as alone, running("-c", _BELOW, _HOLD) as above:
        ours, both = proportional.bytes_of(alone), proportional.bytes_of(above)
        assert ours is not None
        assert both is not None
        assert _HELD < ours < both


def test_one_that_has_ended_takes_nothing() -> None:
    with running("-c", _HOLD) as process:
        pass
    assert proportional.bytes_of(process) is None


def test_another_process_of_the_same_number_does_not_count() -> None:
    assert proportional.bytes_of(Detached(os.getpid(), 1)) is None
