"""`pyro workspace sync`."""

import argparse

from pyro_mcp.cli.parsing import add_commands

EPILOG = """\
Next:
  pyro workspace sync push W ./src --dest src
  pyro workspace diff W
"""
_OPERATIONS = {"push": "copy a folder of this host into a workspace"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Name the operations."""
    add_commands(parser, __name__, _OPERATIONS, "operation")
