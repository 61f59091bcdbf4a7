"""`pyro workspace list`."""

import argparse
from typing import TYPE_CHECKING

from pyro_mcp.cli.parsing import add_json_flag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyro_mcp.workspace_models import WorkspaceInfo

EPILOG = """\
Next:
  pyro workspace list --deleted
  pyro workspace status W
  pyro workspace exec W -- ls -la
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("--deleted", action="store_true", help="those that were deleted and can be restored, instead")
    add_json_flag(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Print the list."""
    from pyro_mcp.cli.output import print_json
    from pyro_mcp.sdk import Pyro

    listed = Pyro().list_workspaces(deleted=arguments.deleted)
    if arguments.json:
        print_json(listed)
    elif not listed:
        _tell_empty(arguments.deleted)
    elif arguments.deleted:
        _print_deleted(listed)
    else:
        _print_present(listed)
    return 0


def _tell_empty(deleted: bool) -> None:
    from pyro_mcp.cli.streams import tell

    if deleted:
        tell("there is no deleted workspace to restore\n")
    else:
        tell("there is no workspace; make one: pyro workspace create debian:12 --seed-path .\n")


def _print_present(listed: "Sequence[WorkspaceInfo]") -> None:
    from pyro_mcp.cli.commands.workspace.shown import labels_of, state_of
    from pyro_mcp.cli.output import moment, print_table, size

    rows = [
        (
            info.workspace_id,
            info.name or "-",
            state_of(info),
            info.environment,
            moment(info.created_at),
            size(info.disk_bytes),
            str(info.running_commands),
            labels_of(info),
        )
        for info in listed
    ]
    print_table(("ID", "NAME", "STATE", "ENVIRONMENT", "CREATED", "DISK", "RUNNING", "LABELS"), rows)


def _print_deleted(listed: "Sequence[WorkspaceInfo]") -> None:
    from pyro_mcp.cli.output import moment, print_table, size

    rows = [
        (
            info.workspace_id,
            info.name or "-",
            info.environment,
            moment(info.deleted_at),
            size(info.disk_bytes),
            moment(info.recoverable_until),
        )
        for info in listed
    ]
    print_table(("ID", "NAME", "ENVIRONMENT", "DELETED", "DISK", "RESTORABLE UNTIL"), rows)
