"""Whether a workspace takes longer to make the more there are."""

import os
import statistics
import time

from pyro_mcp.config import Settings
from pyro_mcp.sdk import Pyro
from tests.bench.own_home import create, own_home
from tests.bench.report import Ratio

_WORKSPACES = 100
_COMPARED = 10
# A round lasts most of a minute, within which the speed of a machine that is virtual itself changes by a fifth.
_ROUNDS = 5


def creating_many(settings: Settings) -> Ratio:
    """100 workspaces made one after another, all of which go on running: the last ten against the first ten."""
    rounds = [_medians(settings) for _ in range(_ROUNDS)]
    first, last = zip(*rounds, strict=True)
    return Ratio(f"create of the last {_COMPARED} of {_WORKSPACES} / the first {_COMPARED}", last, first, 1.2)


def _medians(settings: Settings) -> tuple[float, float]:
    """What the first ten and the last ten took, in seconds each."""
    os.sync()  # or the first ten would pay for what other measurements have left to be written
    with own_home(settings) as ours:
        sdk = Pyro(ours)
        seconds = [_seconds_of_create(sdk) for _ in range(_WORKSPACES)]
    return statistics.median(seconds[:_COMPARED]), statistics.median(seconds[-_COMPARED:])


def _seconds_of_create(sdk: Pyro) -> float:
    began = time.perf_counter()
    create(sdk)
    return time.perf_counter() - began
