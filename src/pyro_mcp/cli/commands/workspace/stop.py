"""`pyro workspace stop`."""

import argparse

from pyro_mcp.cli.parsing import add_json_flag, add_workspace

EPILOG = """\
Commands that run in it end; files, installed packages and the history stay.

Next:
  pyro workspace stop W
  pyro workspace start W
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    add_workspace(parser)
    add_json_flag(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Stop it."""
    from pyro_mcp.cli.commands.workspace.shown import print_changed
    from pyro_mcp.sdk import Pyro

    print_changed(Pyro().stop_workspace(arguments.workspace), "stopped", as_json=arguments.json)
    return 0
