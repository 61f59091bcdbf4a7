"""`pyro workspace update`."""

import argparse

from pyro_mcp.cli.parsing import add_json_flag, add_workspace
from pyro_mcp.errors import InvalidRequest

EPILOG = """\
Next:
  pyro workspace update W --name demo --label owner=me
  pyro workspace update demo --clear-name --clear-label owner
  pyro workspace status W
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    add_workspace(parser)
    name = parser.add_mutually_exclusive_group()
    name.add_argument("--name", metavar="NAME", help="its new name")
    name.add_argument("--clear-name", action="store_true", help="take its name away")
    parser.add_argument("--label", action="append", default=[], metavar="K=V", help="set a label; repeatedly")
    parser.add_argument("--clear-label", action="append", default=[], metavar="K", help="remove a label; repeatedly")
    add_json_flag(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Change it and print how it stands."""
    from pyro_mcp.cli.commands.workspace.labels import parse_labels
    from pyro_mcp.cli.commands.workspace.shown import print_workspace
    from pyro_mcp.sdk import Pyro

    labels = parse_labels(arguments.label)
    if not (arguments.name is not None or arguments.clear_name or labels or arguments.clear_label):
        raise InvalidRequest("nothing_to_change", "there is nothing to change", "give --name, --label or their --clear")
    changed = Pyro().update_workspace(
        arguments.workspace,
        name=arguments.name,
        clear_name=arguments.clear_name,
        labels=labels,
        clear_labels=arguments.clear_label,
    )
    print_workspace(changed, as_json=arguments.json)
    return 0
