"""`pyro workspace reset`."""

import argparse

from pyro_mcp.cli.parsing import add_json_flag, add_workspace

EPILOG = """\
The whole machine goes back, installed packages and running commands included. The disk that it replaces is kept for
seven days, or until the next reset or `pyro workspace prune`.

Next:
  pyro workspace reset W
  pyro workspace restore W
  pyro workspace diff W
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    add_workspace(parser)
    parser.add_argument(
        "--snapshot", default="baseline", metavar="NAME", help="where to go back to (default baseline, its making)"
    )
    add_json_flag(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Reset it and say how to get the old disk back."""
    from pyro_mcp.cli.commands.workspace.shown import print_changed, tell_way_back
    from pyro_mcp.sdk import Pyro

    info = Pyro().reset_workspace(arguments.workspace, arguments.snapshot)
    print_changed(info, f"reset to {arguments.snapshot}", as_json=arguments.json)
    if not arguments.json:
        tell_way_back(info)
    return 0
