"""What Firecracker logs, and which lines of it tell nothing of a machine.

None of its levels has what is of interest and no more: why a processor stopped is a piece of information to it, as is
each device of a machine that it restores. Source of the words: Firecracker 1.12.1.
"""

import re

# "2026-11-28T20:43:49.624741338 [anonymous-instance:fc_vcpu 0] "
_HEAD = r"\d{4}-\d\d-\d\dT[\d:.]+ \[[\w-]+:[\w -]+\] "
_ROUTINE = (
    r"Running Firecracker v",
    r"Listening on API socket ",
    r"API server started",
    r"The API server received a ",
    r"The request was executed successfully",
    r".*'[a-z ]+' (?:API request|VMM action) took \d+ us",
    r"Successfully started microvm ",
    r"(?:Host|Snapshot) CPU vendor ID: \[",
    r"Artificially kick devices",
    r"kick (?:balloon|block|entropy|net|vsock) ",
    # Its end in good order. What was seen of that from outside is its exit code.
    r"Vmm is stopping",
    r"Requested a vCPU run with immediate_exit enabled",
    r"Firecracker exiting successfully",
)
_ROUTINE_LINE = re.compile(f"{_HEAD}(?:{'|'.join(_ROUTINE)})")


def is_routine(line: str) -> bool:
    """Whether Firecracker logs such a line of every machine: how it begins, is restored, and ends in good order."""
    return _ROUTINE_LINE.match(line) is not None
