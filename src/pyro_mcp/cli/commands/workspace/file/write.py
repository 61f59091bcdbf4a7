"""`pyro workspace file write`."""

import argparse

from pyro_mcp.cli.parsing import add_json_flag, add_workspace

EPILOG = """\
The file is replaced in one step: whoever reads it meanwhile finds the old or the new content.

Next:
  pyro workspace file write W notes.txt --text 'remember the milk'
  pyro workspace file write W src/main.c --text-file main.c
  echo hello | pyro workspace file write W hello.txt --text-file -
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    add_workspace(parser)
    parser.add_argument("path", metavar="PATH", help="a file in /workspace, relative to it or absolute")
    content = parser.add_mutually_exclusive_group(required=True)
    content.add_argument("--text", metavar="T", help="the new content")
    content.add_argument("--text-file", metavar="F", help="a file of this host with the new content; - is the input")
    add_json_flag(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Write the file."""
    from pyro_mcp.cli.input_text import text_of
    from pyro_mcp.cli.output import print_json, size
    from pyro_mcp.sdk import Pyro
    from pyro_mcp.workspace_models import FILE_BYTES

    text = text_of(arguments.text, arguments.text_file, most=FILE_BYTES)
    written = Pyro().write_workspace_file(arguments.workspace, arguments.path, text)
    if arguments.json:
        print_json(written)
    else:
        print(f"{written.path}: {size(written.size)} {'written, new' if written.created else 'written'}")
    return 0
