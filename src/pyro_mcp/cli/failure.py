"""The one place that turns errors into words on stderr and an exit code."""

import contextlib
import errno
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from pyro_mcp.cli.streams import silence, tell
from pyro_mcp.errors import HostUnfit, InternalError, Interrupted, PyroError

_ANY_WORKSPACE = " W`"  # at the end of a command in a hint of those who do not know which one it is
_BROKEN_PIPE = 141  # 128 + SIGPIPE, as a shell reports a writer whose reader went away
# What writing to a descriptor fails with. Errors of opening something name a file, those of sockets are others.
_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


@dataclass
class Outcome:
    """The exit code of the command that ran in the block, and the workspace that it was about, as it was typed."""

    exit_code: int = 0
    workspace: str | None = None


@contextlib.contextmanager
def reported(as_json: bool) -> Iterator[Outcome]:
    """Run a command in this block; whatever it raises is told once and becomes the exit code."""
    outcome = Outcome()
    try:
        with _written_out():
            yield outcome
    except KeyboardInterrupt:
        outcome.exit_code = _tell(Interrupted("interrupted", "interrupted"), as_json)
    except BrokenPipeError:
        silence(sys.stdout)  # nobody reads any more
        outcome.exit_code = _BROKEN_PIPE
    except PyroError as error:
        outcome.exit_code = _tell(_about(error, outcome.workspace), as_json)
    except Exception as error:
        outcome.exit_code = _tell(_unexpected(error), as_json)


@contextlib.contextmanager
def _written_out() -> Iterator[None]:
    """Write out what the block printed, also where argparse ends it after a help text."""
    try:
        yield
    except SystemExit:
        sys.stdout.flush()
        raise
    sys.stdout.flush()


def _unexpected(error: Exception) -> PyroError:
    if isinstance(error, OSError) and error.errno in _WRITE_ERRORS and error.filename is None:
        silence(sys.stdout)
        return HostUnfit("cannot_write", f"cannot write the output: {error.strerror}")
    import traceback  # late, as below: most commands do not fail, and are to start quickly

    tell("".join(traceback.format_exception(error)))
    return InternalError("internal", "this is a fault of pyro's own")


def _about(error: PyroError, workspace: str | None) -> PyroError:
    """The error, with the workspace where its hint names commands for any (`pyro workspace logs W`)."""
    if error.hint and workspace and _ANY_WORKSPACE in error.hint:
        import shlex

        error.hint = error.hint.replace(_ANY_WORKSPACE, f" {shlex.quote(workspace)}`")
    return error


def _tell(error: PyroError, as_json: bool) -> int:
    if as_json:
        import json

        content = {"code": error.code, "message": error.message, "hint": error.hint}
        tell(json.dumps({"error": content}) + "\n")
    else:
        first, *more = error.message.rstrip().splitlines() or [""]
        lines = [f"pyro: error: {first} [{error.code}]", *(line if line[:1] == " " else f"  {line}" for line in more)]
        if error.hint:
            lines.append(f"  hint: {error.hint}")
        tell("\n".join((*lines, "")))
    return error.exit_code
