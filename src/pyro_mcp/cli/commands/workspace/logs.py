"""`pyro workspace logs`: the history of commands, and what one of them wrote."""

import argparse
from typing import TYPE_CHECKING

from pyro_mcp.cli.parsing import add_json_flag, add_workspace, whole_number
from pyro_mcp.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyro_mcp.sdk import Pyro
    from pyro_mcp.workspace_models import ExecInfo, OutputPage

EPILOG = """\
Without EXEC_ID the commands that ran, oldest first. With it what that command wrote, stdout and stderr in the order in
which they were written, all of it unless limited.

Next:
  pyro workspace logs W
  pyro workspace logs W EXEC_ID
  pyro workspace logs W EXEC_ID --tail-bytes 2000
  pyro workspace logs W EXEC_ID --grep 'error|warning'
"""
_PAGE_BYTES = 1 << 20
_COMMAND_CHARACTERS = 80


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    add_workspace(parser)
    parser.add_argument("exec_id", metavar="EXEC_ID", nargs="?", help="the command whose output is wanted")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--offset", type=whole_number, metavar="N", help="begin at this byte of the output")
    start.add_argument("--tail-bytes", type=whole_number, metavar="N", help="only the last bytes of the output")
    parser.add_argument("--limit", type=whole_number, metavar="N", help="print at most this many bytes")
    parser.add_argument("--grep", metavar="REGEX", help="print only lines that match")
    add_json_flag(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Print the history, or a command's output."""
    from pyro_mcp.sdk import Pyro

    flags = (arguments.offset, arguments.tail_bytes, arguments.limit, arguments.grep)
    if arguments.exec_id is not None:
        _print_output(Pyro(), arguments)
    elif any(flag is not None for flag in flags):
        raise InvalidRequest("bad_usage", "these flags need the id of a command", "see `pyro workspace logs W`")
    else:
        _print_history(Pyro().workspace_logs(arguments.workspace), as_json=arguments.json)
    return 0


def _print_history(history: "Sequence[ExecInfo]", *, as_json: bool) -> None:
    from pyro_mcp.cli.output import moment, print_json, print_table, size
    from pyro_mcp.cli.streams import tell

    if as_json:
        print_json(history)
    elif not history:
        tell("no command has run in it\n")
    else:
        rows = [
            (
                info.exec_id,
                info.status,
                "-" if info.exit_code is None else str(info.exit_code),
                "-" if info.duration_ms is None else f"{info.duration_ms / 1000:.1f} s",
                size(info.output_bytes),
                moment(info.started_at),
                _shortened(info.command),
            )
            for info in history
        ]
        print_table(("EXEC ID", "STATUS", "EXIT", "TIME", "OUTPUT", "STARTED", "COMMAND"), rows)


def _print_output(pyro: "Pyro", arguments: argparse.Namespace) -> None:
    from pyro_mcp.cli.output import print_bytes, print_json, summary

    data = bytearray()
    for page in _pages(pyro, arguments):
        if arguments.json:
            data += page.data
        else:
            print_bytes(page.data)
        last = page
    told = {
        "exec_id": last.exec_id,
        "next_offset": last.next_offset,
        "total_bytes": last.total_bytes,
        "running": last.running,
    }
    if arguments.json:
        print_json({**told, "output": bytes(data)})
    else:
        summary("logs", **{key: str(value).lower() for key, value in told.items()})


def _pages(pyro: "Pyro", arguments: argparse.Namespace) -> "Iterator[OutputPage]":
    """The output from where it is wanted to its present end, or to the limit; at least one page."""
    offset = _first_offset(pyro, arguments)
    left = arguments.limit
    while True:
        limit = _PAGE_BYTES if left is None else min(_PAGE_BYTES, left)
        page = pyro.read_command_output(
            arguments.workspace, arguments.exec_id, offset=offset, limit=limit, grep=arguments.grep
        )
        yield page
        left = None if left is None else left - len(page.data)
        if page.next_offset is None or page.next_offset == offset or left == 0:
            return
        offset = page.next_offset


def _first_offset(pyro: "Pyro", arguments: argparse.Namespace) -> int:
    if arguments.tail_bytes is None:
        return arguments.offset or 0
    if arguments.tail_bytes < 1:
        raise InvalidRequest("out_of_range", f"--tail-bytes is {arguments.tail_bytes}", "it must be at least 1")
    probe = pyro.read_command_output(arguments.workspace, arguments.exec_id, limit=1)
    return max(0, probe.total_bytes - int(arguments.tail_bytes))


def _shortened(command: "Sequence[str]") -> str:
    from shlex import join

    line = join(command)
    line = "".join(character if character.isprintable() else "?" for character in line[:_COMMAND_CHARACTERS])
    return line if len(line) < _COMMAND_CHARACTERS else f"{line[:-3]}..."
