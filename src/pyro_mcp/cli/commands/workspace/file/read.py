"""`pyro workspace file read`."""

import argparse
import codecs
from typing import TYPE_CHECKING

from pyro_mcp.cli.parsing import add_json_flag, add_workspace, whole_number
from pyro_mcp.errors import InvalidRequest

if TYPE_CHECKING:
    from pyro_mcp.workspace_models import FileContent

EPILOG = """\
Prints the content and, on stderr, the size. A file that is not UTF-8 text is refused unless --content-only is given,
which prints the bytes as they are and nothing else.

Next:
  pyro workspace file read W README.md
  pyro workspace file read W logo.png --content-only >logo.png
  pyro workspace file write W notes.txt --text-file notes.txt
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    add_workspace(parser)
    parser.add_argument("path", metavar="PATH", help="a file in /workspace, relative to it or absolute")
    parser.add_argument(
        "--max-bytes", type=whole_number, default=1 << 20, metavar="N", help="read at most this much (default 1048576)"
    )
    parser.add_argument("--content-only", action="store_true", help="the bytes as they are, and nothing else")
    add_json_flag(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Print the file."""
    from pyro_mcp.cli.output import print_bytes, print_json, summary
    from pyro_mcp.sdk import Pyro

    content = Pyro().read_workspace_file(arguments.workspace, arguments.path, max_bytes=arguments.max_bytes)
    if arguments.content_only:
        print_bytes(content.data)
        return 0
    text = _text(content)
    if arguments.json:
        print_json({"path": content.path, "size": content.size, "truncated": content.truncated, "content": text})
    else:
        print_bytes(text.encode())
        summary("file", path=content.path, size=content.size, truncated=str(content.truncated).lower())
    return 0


def _text(content: "FileContent") -> str:
    """The content as text; where it is cut off inside a character, without that character."""
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(content.data, not content.truncated)
    except UnicodeDecodeError:
        raise InvalidRequest(
            "not_utf8", f"{content.path} is not UTF-8 text", "--content-only prints its bytes as they are"
        ) from None
