"""`pyro workspace restore`."""

import argparse

from pyro_mcp.cli.parsing import add_json_flag, add_workspace

EPILOG = """\
Next:
  pyro workspace list --deleted
  pyro workspace restore W
  pyro workspace start W
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    add_workspace(parser)
    parser.add_argument("--name", metavar="NAME", help="its name from now on, where its old one is in use")
    add_json_flag(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Bring it back and say how it stands."""
    from pyro_mcp.cli.commands.workspace.shown import print_changed, state_of
    from pyro_mcp.sdk import Pyro

    info = Pyro().restore_workspace(arguments.workspace, name=arguments.name)
    print_changed(info, f"restored, {state_of(info)}", as_json=arguments.json)
    return 0
