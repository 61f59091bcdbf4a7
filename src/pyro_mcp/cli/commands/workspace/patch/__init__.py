"""`pyro workspace patch`."""

import argparse

from pyro_mcp.cli.parsing import add_commands

EPILOG = """\
Next:
  pyro workspace patch apply W --patch-file changes.patch
  git diff | pyro workspace patch apply W --patch-file -
"""
_OPERATIONS = {"apply": "apply a unified diff, all of it or nothing"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Name the operations."""
    add_commands(parser, __name__, _OPERATIONS, "operation")
