"""How a command ended, or why it did not start, in the words of a shell."""

from pyro_mcp.errors import CommandNotStarted, GuestFailed, InvalidRequest, PyroError
from pyro_mcp.guest.messages import CommandState, Exited, Failed
from pyro_mcp.guest.printable import printable

TIMED_OUT = 124  # as timeout(1) exits
_SIGNALLED = 128  # plus the signal's number, as a shell reports it
# What the agent may take to end a command whose time is up.
GRACE_SECONDS = 10.0
# What it may take after that to hand over what a slow reader had held back, before it is given up.
LAST_WORDS_SECONDS = 3.0


def exit_code(ended: Exited | CommandState) -> int:
    """What a shell would report: 124 after a time-out, 128+N after signal N."""
    if ended.timed_out:
        return TIMED_OUT
    return ended.exit_code if ended.exit_code is not None else _SIGNALLED + (ended.signal or 0)


def not_started(failed: Failed) -> PyroError:
    """The error for a command that the agent could not start; `CommandNotStarted` has the shell's 127 or 126."""
    said = printable(failed.message[:300])
    match failed.code:
        case "not_found":
            return CommandNotStarted("command_not_found", said, "is it installed in this environment?", exit_code=127)
        case "not_executable":
            return CommandNotStarted("command_not_executable", said, "check its permissions and format", exit_code=126)
        case "bad_request" | "bad_cwd":
            return InvalidRequest("bad_command", said)
        case _:
            return GuestFailed("guest_failed", f"the guest could not start the command: {said}")
