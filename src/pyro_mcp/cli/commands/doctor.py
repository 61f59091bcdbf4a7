"""`pyro doctor`: proves this host, or says what mends it."""

import argparse
import asyncio
import json
import os
import signal
import sys
from typing import TYPE_CHECKING

from pyro_mcp.cli.parsing import add_json_flag
from pyro_mcp.cli.streams import tell
from pyro_mcp.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyro_mcp.doctor.report import Report, Row
    from pyro_mcp.doctor.run import Check

EPILOG = """\
Every line is proved by doing it, guests included: that takes about ten seconds and leaves nothing running.
Ends with 0 when a guest can run on this host, else with 1. Every FAIL and WARN comes with the line that mends it.

Next:
  pyro doctor --environment debian:12
  pyro env pull debian:12
  pyro run debian:12 -- git --version
"""
_COLOURS = {"PASS": "\x1b[32m", "WARN": "\x1b[33m", "FAIL": "\x1b[31m"}
_PLAIN = "\x1b[0m"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("--environment", metavar="ENV", help="also run a command in this environment, if installed")
    add_json_flag(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Examine the host and return the exit code."""
    from pyro_mcp.config import Settings
    from pyro_mcp.doctor.checks import all_checks

    checks = all_checks(Settings.from_environment(), arguments.environment)
    if arguments.json:
        report = asyncio.run(_examine(checks, lambda _: None))
        print(json.dumps(report.to_json(), indent=2))
    else:
        printer = _Printer(max(len(check.name) for check in checks))
        report = asyncio.run(_examine(checks, printer.show))
        tell(f"[doctor] ok={str(report.ok).lower()} duration_ms={report.duration_ms}\n")
    return 0 if report.ok else 1


async def _examine(checks: "Sequence[Check]", on_row: "Callable[[Row], None]") -> "Report":
    """Run the checks. SIGTERM ends them in the same orderly way as Ctrl-C, so that no guest or daemon is left."""
    from pyro_mcp.doctor.run import run_checks

    examining = asyncio.ensure_future(run_checks(checks, on_row))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, examining.cancel, "terminated")
    try:
        return await examining
    except asyncio.CancelledError as error:
        if error.args == ("terminated",):
            raise Interrupted("interrupted", "terminated", exit_code=128 + signal.SIGTERM) from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


class _Printer:
    """Prints rows for people as they come."""

    def __init__(self, name_width: int) -> None:
        self._width = name_width
        self._coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def show(self, row: "Row") -> None:
        status = f"{_COLOURS[row.status]}{row.status}{_PLAIN}" if self._coloured else row.status
        first, *more = row.found.splitlines() or [""]
        print(f"{status}  {row.name:{self._width}}  {first}", flush=True)
        indent = " " * (len(row.status) + self._width + 4)
        for line in more:
            print(f"{indent}{line}", flush=True)
        if row.mend is not None:
            print(f"{indent}mend: {row.mend}", flush=True)
