"""`pyro workspace file`."""

import argparse

from pyro_mcp.cli.parsing import add_commands

EPILOG = """\
Next:
  pyro workspace file list W --recursive
  pyro workspace file read W README.md
  pyro workspace file write W notes.txt --text 'remember the milk'
"""
_OPERATIONS = {
    "list": "what is in a folder",
    "read": "print a file",
    "write": "give a file new content; missing folders are made",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Name the operations."""
    add_commands(parser, __name__, _OPERATIONS, "operation")
