"""`pyro workspace exec`."""

import argparse

from pyro_mcp.cli.command_words import utf8_words
from pyro_mcp.cli.parsing import add_json_flag, add_timeout_flag, add_workspace
from pyro_mcp.cli.streams import tell

EPILOG = """\
The command runs in /workspace, gets this command's input and signals, its output appears here as it is written, and
this command ends with its exit code: 124 after a time-out, 127 when there is no such command, 126 when it cannot be
executed. What it wrote is kept in the workspace: `pyro workspace logs`.

Next:
  pyro workspace exec W -- ls -la
  pyro workspace exec W --timeout-seconds 600 -- make test
  tar c docs | pyro workspace exec W -- tar x
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.usage = "pyro workspace exec W [flags] -- CMD ..."
    add_workspace(parser)
    add_timeout_flag(parser)
    add_json_flag(parser)
    # The command is what stands behind `--`.
    parser.set_defaults(command=[], example="pyro workspace exec W -- ls -la")


def execute(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from pyro_mcp.cli.output import print_json, summary
    from pyro_mcp.cli.run_session import RunSession
    from pyro_mcp.sdk import Pyro
    from pyro_mcp.workspace_models import ExecInfo, ExecRequest

    request = ExecRequest(utf8_words(arguments.command), arguments.timeout_seconds, stdin=True)
    stream = Pyro().stream_in_workspace(arguments.workspace, request)
    session = RunSession(stream, ExecInfo, keep_output=arguments.json)
    ended = session.follow()
    if arguments.json:
        print_json(session.result(ended))
    else:
        if ended.status == "timed_out":
            limit = arguments.timeout_seconds
            tell(f"pyro: the command reached its limit of {limit} s; give it more with --timeout-seconds\n")
        summary("exec", exec_id=ended.exec_id, exit_code=ended.exit_code, duration_ms=ended.duration_ms)
    return 1 if ended.exit_code is None else ended.exit_code
