"""`pyro workspace patch apply`."""

import argparse
from typing import TYPE_CHECKING

from pyro_mcp.cli.parsing import add_json_flag, add_workspace

if TYPE_CHECKING:
    from pyro_mcp.workspace_models import PatchedFile

EPILOG = """\
A hunk that does not fit is told with what stands there instead, and nothing is changed.

Next:
  pyro workspace patch apply W --patch-file changes.patch
  git diff | pyro workspace patch apply W --patch-file -
  pyro workspace diff W
"""
_PATCH_BYTES = 8 << 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    add_workspace(parser)
    content = parser.add_mutually_exclusive_group(required=True)
    content.add_argument("--patch", metavar="T", help="the diff itself")
    content.add_argument("--patch-file", metavar="F", help="a file of this host with the diff; - is the input")
    add_json_flag(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Apply it and say what it changed."""
    from pyro_mcp.cli.input_text import text_of
    from pyro_mcp.cli.output import print_json, print_table
    from pyro_mcp.sdk import Pyro

    patch = text_of(arguments.patch, arguments.patch_file, most=_PATCH_BYTES)
    report = Pyro().apply_workspace_patch(arguments.workspace, patch)
    if arguments.json:
        print_json(report)
    else:
        print_table(("CHANGE", "HUNKS", "FILE"), [(file.change, str(file.hunks), _name(file)) for file in report.files])
    return 0


def _name(file: "PatchedFile") -> str:
    name = file.path if file.old_path is None else f"{file.old_path} -> {file.path}"
    return f"{name} (up to {file.offset_lines} lines off)" if file.offset_lines else name
