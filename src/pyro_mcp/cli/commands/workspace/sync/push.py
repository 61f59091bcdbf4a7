"""`pyro workspace sync push`."""

import argparse

from pyro_mcp.cli.parsing import add_json_flag, add_workspace

EPILOG = """\
What is in DIR goes into /workspace or the folder that --dest names; of a git checkout what git sees, without .git.
Files that are only in the workspace stay. An interrupted push leaves of each file the old or the new one.

Next:
  pyro workspace sync push W .
  pyro workspace sync push W ./docs --dest docs
  pyro workspace diff W
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    add_workspace(parser)
    parser.add_argument("source", metavar="DIR", help="a folder of this host")
    parser.add_argument(
        "--dest", default="/workspace", metavar="PATH", help="a folder in /workspace to copy into (default /workspace)"
    )
    parser.add_argument("--all", action="store_true", help="of a git checkout everything, ignored files too")
    add_json_flag(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Copy the files and say how many."""
    from pyro_mcp.cli.output import counted, print_json, size
    from pyro_mcp.cli.progress import shown_progress
    from pyro_mcp.sdk import Pyro

    with shown_progress() as on_progress:
        report = Pyro().push_workspace_sync(
            arguments.workspace, arguments.source, dest=arguments.dest, all=arguments.all, on_progress=on_progress
        )
    if arguments.json:
        print_json(report)
    else:
        print(f"{report.dest}: {counted(report.files, 'file')}, {size(report.bytes)}")
    return 0
