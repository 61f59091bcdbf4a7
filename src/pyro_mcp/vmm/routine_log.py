"""Which lines of what a VMM says tell nothing of a machine.

None of Firecracker's levels has what is of interest and no more: why a processor stopped is a piece of information to
it, as is each device of a machine that it restores. Source of the words: Firecracker 1.12.1, QEMU 7.2.
"""

import re

# "2026-11-28T20:43:49.624741338 [anonymous-instance:fc_vcpu 0] "
_HEAD = r"\d{4}-\d\d-\d\dT[\d:.]+ \[[\w-]+:[\w -]+\] "
_FIRECRACKER = (
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
# Its processor model is emulated with all but what the emulator lacks.
_QEMU = r"qemu-system-\w+: warning: TCG doesn't support requested feature: "
_ROUTINE = re.compile(f"{_HEAD}(?:{'|'.join(_FIRECRACKER)})|{_QEMU}")


def telling_lines(console: str) -> list[str]:
    """The lines of what a VMM and its guest printed, without empty ones and without what a VMM says of every machine:
    how it begins, is restored, and ends in good order."""
    lines = (line.rstrip() for line in console.splitlines())
    return [line for line in lines if line and not _ROUTINE.match(line)]
