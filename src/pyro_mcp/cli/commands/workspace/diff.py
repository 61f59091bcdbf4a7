"""`pyro workspace diff`."""

import argparse
from typing import TYPE_CHECKING

from pyro_mcp.cli.parsing import add_json_flag, add_workspace

if TYPE_CHECKING:
    from pyro_mcp.workspace_models import DiffReport

EPILOG = """\
The text goes to stdout and is what `git apply` takes; the totals go to stderr.

Next:
  pyro workspace diff W
  pyro workspace diff W >changes.patch && git apply changes.patch
  pyro workspace reset W
"""


_MOST_BYTES = 64 << 20  # as much as there is to be had


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    add_workspace(parser)
    add_json_flag(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Print the differences. Leaving some out is an error: the text may be meant to be applied."""
    from pyro_mcp.cli.output import print_bytes, print_json
    from pyro_mcp.cli.streams import tell
    from pyro_mcp.errors import PyroError
    from pyro_mcp.sdk import Pyro

    report = Pyro().diff_workspace(arguments.workspace, max_bytes=_MOST_BYTES)
    if arguments.json:
        print_json(report)
        return 0
    print_bytes(report.text)
    tell(f"[diff] {_totals(report)}\n")
    if report.truncated:
        raise PyroError(
            "diff_incomplete",
            "the text leaves out files that are too large",
            "`--json` lists every file; take large ones out with `pyro workspace export`",
        )
    return 0


def _totals(report: "DiffReport") -> str:
    from pyro_mcp.cli.output import counted

    if not report.entries:
        return "nothing changed"
    return (
        f"{counted(len(report.entries), 'file')} changed, {counted(report.insertions, 'insertion')}(+), "
        f"{counted(report.deletions, 'deletion')}(-)"
    )
