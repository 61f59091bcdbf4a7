"""`pyro workspace prune`."""

import argparse

from pyro_mcp.cli.parsing import add_json_flag

EPILOG = """\
What is removed here cannot be restored.

Next:
  pyro workspace list --deleted
  pyro workspace prune --dry-run
  pyro workspace prune
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("workspace", metavar="W", nargs="?", help="only what is kept of this workspace (default all)")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    add_json_flag(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Remove it and say how much it freed."""
    from pyro_mcp.cli.output import print_json, size
    from pyro_mcp.cli.streams import tell
    from pyro_mcp.sdk import Pyro

    report = Pyro().prune_workspaces(workspace=arguments.workspace, dry_run=arguments.dry_run)
    if arguments.json:
        print_json(report)
        return 0
    for line in report.removed:
        print(line)
    verb = "would free" if report.dry_run else "freed"
    tell(f"{verb} {size(report.freed_bytes)} ({report.freed_bytes} bytes)\n")
    return 0
