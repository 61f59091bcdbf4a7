"""`pyro workspace delete`."""

import argparse

from pyro_mcp.cli.parsing import add_json_flag, add_workspace

EPILOG = """\
Its disk is kept for seven days, or until `pyro workspace prune`.

Next:
  pyro workspace delete W
  pyro workspace list --deleted
  pyro workspace restore W
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    add_workspace(parser)
    add_json_flag(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Delete it and say how to get it back."""
    from pyro_mcp.cli.commands.workspace.shown import print_changed, tell_way_back
    from pyro_mcp.sdk import Pyro

    deleted = Pyro().delete_workspace(arguments.workspace)
    print_changed(deleted, "deleted", as_json=arguments.json)
    if not arguments.json:
        tell_way_back(deleted)
    return 0
