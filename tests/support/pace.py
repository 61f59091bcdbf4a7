"""How slow this host is. The test host of scripts/check-kvm, which emulates guests in an emulated machine, says so."""

import os

SLOWNESS = float(os.environ.get("PYRO_TEST_SLOWNESS", "1"))


def patience(seconds: float) -> float:
    """How long to wait here for what takes no longer than that on an ordinary machine."""
    return seconds * SLOWNESS


def repeated(times: int) -> int:
    """How often to do here what is done that often on an ordinary machine, so that it does not take much longer."""
    return max(1, round(times / SLOWNESS))
