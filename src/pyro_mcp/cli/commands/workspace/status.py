"""`pyro workspace status`."""

import argparse

from pyro_mcp.cli.parsing import add_json_flag, add_workspace

EPILOG = """\
Next:
  pyro workspace logs W
  pyro workspace diff W
  pyro workspace exec W -- df -h /
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    add_workspace(parser)
    add_json_flag(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Print what is known of the workspace."""
    from pyro_mcp.cli.commands.workspace.shown import print_workspace
    from pyro_mcp.sdk import Pyro

    print_workspace(Pyro().workspace_status(arguments.workspace), as_json=arguments.json)
    return 0
