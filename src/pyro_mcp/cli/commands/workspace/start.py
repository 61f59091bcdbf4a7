"""`pyro workspace start`."""

import argparse

from pyro_mcp.cli.parsing import add_json_flag, add_workspace

EPILOG = """\
Its time limit, if it has one, begins anew.

Next:
  pyro workspace start W
  pyro workspace exec W -- ls -la
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    add_workspace(parser)
    add_json_flag(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Start it."""
    from pyro_mcp.cli.commands.workspace.shown import print_changed
    from pyro_mcp.sdk import Pyro

    print_changed(Pyro().start_workspace(arguments.workspace), "started", as_json=arguments.json)
    return 0
