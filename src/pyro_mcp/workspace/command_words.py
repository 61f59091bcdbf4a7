"""What every command must be, wherever it is to run."""

import json

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.models import TIMEOUT_SECONDS_RANGE

# A command's words as they travel to the guest (JSON), with room left in the frame that holds them.
_COMMAND_BYTES = 512 * 1024
# For programs: the command line and the tools of chat hosts refuse an empty command in words of their own.
_WHAT_A_COMMAND_IS = "give a list of words, the program first: ['ls', '-la']"


def check_command(command: tuple[str, ...], timeout_seconds: int) -> None:
    """Refuse what cannot be run, naming the parameter."""
    if not command or not command[0]:
        raise InvalidRequest("no_command", "there is no command to run", _WHAT_A_COMMAND_IS)
    if any("\0" in word for word in command):
        raise InvalidRequest("bad_command", "the command holds a NUL byte", "only its input can hold one")
    try:
        "".join(command).encode()
    except UnicodeEncodeError:
        raise InvalidRequest("bad_command", "the command is not Unicode text", "its words must be UTF-8") from None
    if len(json.dumps(command)) > _COMMAND_BYTES:
        raise InvalidRequest(
            "bad_command",
            f"the command is too long: over {_COMMAND_BYTES // 1024} KiB encoded",
            "put what is long into a file, or into its input",
        )
    check_range("--timeout-seconds", timeout_seconds, TIMEOUT_SECONDS_RANGE)


def check_range(name: str, value: int, allowed: range) -> None:
    """Refuse a number that is out of range, naming the parameter."""
    if value not in allowed:
        raise InvalidRequest(
            "out_of_range", f"{name} is {value}", f"it must be between {allowed.start} and {allowed.stop - 1}"
        )
