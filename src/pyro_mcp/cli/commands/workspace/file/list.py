"""`pyro workspace file list`."""

import argparse
import stat
from typing import TYPE_CHECKING

from pyro_mcp.cli.parsing import add_json_flag, add_workspace

if TYPE_CHECKING:
    from pyro_mcp.workspace_models import FileEntry

EPILOG = """\
Next:
  pyro workspace file list W
  pyro workspace file list W src --recursive
  pyro workspace file read W README.md
"""
_KINDS = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    add_workspace(parser)
    parser.add_argument(
        "path", metavar="PATH", nargs="?", default="/workspace", help="a folder in /workspace (default /workspace)"
    )
    parser.add_argument("--recursive", action="store_true", help="with what is in its folders")
    add_json_flag(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Print the list."""
    from pyro_mcp.cli.output import moment, print_json, size
    from pyro_mcp.cli.streams import tell
    from pyro_mcp.sdk import Pyro

    listing = Pyro().list_workspace_files(arguments.workspace, arguments.path, recursive=arguments.recursive)
    if arguments.json:
        print_json(listing)
        return 0
    for entry in listing.entries:
        print(f"{_mode(entry)}  {size(entry.size):>10}  {moment(entry.modified_at)}  {_name(entry)}")
    if listing.truncated:
        tell(f"[file] only the first {len(listing.entries)} are shown\n")
    return 0


def _mode(entry: "FileEntry") -> str:
    kind = _KINDS.get(entry.kind)
    return stat.filemode(entry.mode | kind) if kind else f"?{stat.filemode(entry.mode)[1:]}"


def _name(entry: "FileEntry") -> str:
    name = entry.path if entry.target is None else f"{entry.path} -> {entry.target}"
    return "".join(character if character.isprintable() else "?" for character in name)
