"""`pyro workspace export`."""

import argparse

from pyro_mcp.cli.parsing import add_json_flag, add_workspace

EPILOG = """\
Next:
  pyro workspace export W . --output ./from-workspace
  pyro workspace export W dist/report.html --output report.html
  pyro workspace diff W
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    add_workspace(parser)
    parser.add_argument("path", metavar="PATH", help="a file or folder in /workspace, relative to it or absolute")
    parser.add_argument("--output", required=True, metavar="O", help="what to make on this host; must not exist yet")
    parser.add_argument(
        "--include-git", action="store_true", help="repositories too: git runs programs that their settings name"
    )
    add_json_flag(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Copy it and say what was copied."""
    from pyro_mcp.cli.output import counted, print_json, size
    from pyro_mcp.cli.progress import shown_progress
    from pyro_mcp.cli.streams import tell
    from pyro_mcp.sdk import Pyro

    with shown_progress() as on_progress:
        report = Pyro().export_workspace(
            arguments.workspace,
            arguments.path,
            arguments.output,
            include_git=arguments.include_git,
            on_progress=on_progress,
        )
    if arguments.json:
        print_json(report)
        return 0
    for name in report.skipped:
        tell(f"[export] left out: {name}\n")
    if report.skipped:
        tell(f"[export] what is left out: {', '.join(report.skipped_kinds)}\n")
    print(f"{report.output}: {counted(report.files, 'file')}, {size(report.bytes)}")
    return 0
