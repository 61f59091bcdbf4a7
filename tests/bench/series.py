"""Whether a workspace takes longer to make the more there are."""

import statistics
import time

from pyro_mcp.config import Settings
from pyro_mcp.sdk import Pyro
from tests.bench.own_home import create, own_home
from tests.bench.report import Ratio

_WORKSPACES = 100
_COMPARED = 10


def creating_many(settings: Settings) -> Ratio:
    """100 workspaces made one after another, all of which go on running: the last ten against the first ten."""
    with own_home(settings) as ours:
        sdk = Pyro(ours)
        seconds = [_seconds_of_create(sdk) for _ in range(_WORKSPACES)]
    last, first = statistics.median(seconds[-_COMPARED:]), statistics.median(seconds[:_COMPARED])
    return Ratio(f"create of the last {_COMPARED} of {_WORKSPACES} / the first {_COMPARED}", (last,), (first,), 1.2)


def _seconds_of_create(sdk: Pyro) -> float:
    began = time.perf_counter()
    create(sdk)
    return time.perf_counter() - began
