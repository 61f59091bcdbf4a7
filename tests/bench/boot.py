"""`pyro run debian:12 -- true` against a bare QEMU that boots the same kernel and root, runs `true` and ends."""

import subprocess
import sys
import time
from pathlib import Path

from tests.bench.bare import BareMachine
from tests.bench.report import Ratio

_ROUNDS = 7


def run_against_bare_boot(bare: BareMachine) -> Ratio:
    """Whole processes, wall time, interleaved; the daemon runs already, every machine boots cold."""
    pyro = str(Path(sys.executable).parent / "pyro")
    ours, theirs = [], []
    for _ in range(_ROUNDS):
        ours.append(_seconds_of_run(pyro))
        theirs.append(_seconds_of_bare_boot(bare))
    return Ratio("pyro run debian:12 -- true / bare boot", tuple(ours), tuple(theirs), 1.25)


def _seconds_of_run(pyro: str) -> float:
    began = time.perf_counter()
    subprocess.run([pyro, "run", "debian:12", "--", "true"], check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def _seconds_of_bare_boot(bare: BareMachine) -> float:
    """From the start of QEMU to its end; one that hangs in its boot, as untuned ones do, fails the benchmark."""
    began = time.perf_counter()
    with bare.started("true") as (process, _):
        process.wait(timeout=60)
        seconds = time.perf_counter() - began
    assert process.returncode == 0
    return seconds
