"""The one place that turns errors into words on stderr and an exit code."""

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

from pyro_mcp.errors import Interrupted, PyroError

_BROKEN_PIPE = 141  # 128 + SIGPIPE, as a shell reports a writer whose reader went away


@dataclass
class Outcome:
    """The exit code of the command that ran in the block."""

    exit_code: int = 0


@contextlib.contextmanager
def reported(as_json: bool) -> Iterator[Outcome]:
    """Run a command in this block; whatever it raises is told once and becomes the exit code."""
    outcome = Outcome()
    try:
        yield outcome
        if sys.stdout is not None:  # as it is where whoever started us closed it
            sys.stdout.flush()
    except KeyboardInterrupt:
        outcome.exit_code = _tell(Interrupted("interrupted", "interrupted"), as_json)
    except BrokenPipeError:
        # Nobody reads any more. Point stdout away so that the interpreter's last flush is silent too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        outcome.exit_code = _BROKEN_PIPE
    except PyroError as error:
        outcome.exit_code = _tell(error, as_json)
    except Exception:
        traceback.print_exc()
        outcome.exit_code = _tell(PyroError("internal", "this is a fault of pyro's own", exit_code=2), as_json)


def _tell(error: PyroError, as_json: bool) -> int:
    if as_json:
        content = {"code": error.code, "message": error.message, "hint": error.hint}
        print(json.dumps({"error": content}), file=sys.stderr)
    else:
        print(f"pyro: error: {error.message} [{error.code}]", file=sys.stderr)
        if error.hint:
            print(f"  hint: {error.hint}", file=sys.stderr)
    return error.exit_code
