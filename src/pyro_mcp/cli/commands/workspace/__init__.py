"""`pyro workspace`: persistent workspaces. Only the module of the verb that is typed gets imported."""

import argparse
from importlib import import_module

from pyro_mcp.cli.parsing import add_commands

EPILOG = """\
A workspace is a Linux machine of its own that lasts: its folder /workspace starts with your files, and is compared with
them, exported, and reset. W is its id, a unique prefix of that, or its name.

Next:
  pyro workspace create debian:12 --seed-path . --name demo
  pyro workspace exec demo -- git status
  pyro workspace diff demo
  pyro workspace export demo . --output ./demo-out
  pyro workspace reset demo
  pyro workspace delete demo
"""
_ACTIONS = {
    "create": "make a workspace and start it",
    "list": "all workspaces, or those that were deleted and can be restored",
    "status": "one workspace as it is now",
    "update": "change a workspace's name and labels",
    "logs": "the commands that ran in a workspace, and what they wrote",
    "exec": "run a command in a workspace's /workspace",
    "sync": "copy files of this host in, later",
    "file": "list, read and write files without shell quoting",
    "patch": "apply a unified diff",
    "diff": "what changed since the workspace was made",
    "export": "copy a file or folder out to this host",
    "reset": "put the whole machine back to how it was made",
    "stop": "end the machine, keep the disk",
    "start": "start a stopped workspace from its disk",
    "delete": "delete a workspace; it can be restored for seven days",
    "restore": "bring back what a delete or a reset took away",
    "prune": "remove for good what was deleted or replaced by a reset",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Name the verbs."""
    add_commands(parser, __name__, _ACTIONS, "action")


def execute(arguments: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    exit_code = import_module(arguments.module).execute(arguments)
    assert isinstance(exit_code, int)  # noqa: S101  (every verb's `execute` says so)
    return exit_code
