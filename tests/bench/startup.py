"""How quickly the command line starts, against the Python interpreter alone."""

import subprocess
import sys
import time
from pathlib import Path

from tests.bench.report import Ratio

_ROUNDS = 25


def version_against_bare_python() -> Ratio:
    """`pyro --version` against `python -c pass`."""
    pyro = str(Path(sys.executable).parent / "pyro")
    ours, bare = [], []
    for _ in range(_ROUNDS):
        ours.append(_seconds([pyro, "--version"]))
        bare.append(_seconds([sys.executable, "-c", "pass"]))
    return Ratio("pyro --version / python -c pass", tuple(ours), tuple(bare), 2.5)


def _seconds(argv: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
