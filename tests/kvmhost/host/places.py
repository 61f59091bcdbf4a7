"""Where the test host's parts are made and kept."""

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
BUILT = CHECKOUT / "build" / "kvmhost"
RUN = BUILT / "run"  # of the last run: drives, console, output and what the tests left to be looked at
INSIDE = Path(__file__).resolve().parent / "inside"
LOCK = CHECKOUT / "requirements" / "dev.txt"
