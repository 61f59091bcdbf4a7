"""`pyro run`: one command in a throwaway VM."""

import argparse
import json
from contextlib import nullcontext
from typing import TYPE_CHECKING

from pyro_mcp.cli.command_words import utf8_words
from pyro_mcp.cli.parsing import add_json_flag, add_size_flags, add_timeout_flag, whole_number
from pyro_mcp.cli.streams import tell

if TYPE_CHECKING:
    from pyro_mcp.cli.timings import Timings

EPILOG = """\
The command gets this command's input, its output appears here as it is written, and this command ends with its exit
code: 124 after a time-out, 127 when there is no such command, 126 when it cannot be executed.

Examples:
  pyro run debian:12 -- git --version
  pyro run debian:12 --timeout-seconds 300 --mem-mib 2048 -- python3 -c 'print(2**100)'
  echo hello | pyro run debian:12 -- tr a-z A-Z
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.usage = "pyro run ENV [flags] -- CMD ..."
    parser.add_argument("environment", metavar="ENV", help="a name from `pyro env list`, such as debian:12")
    add_size_flags(parser)
    add_timeout_flag(parser)
    parser.add_argument("--ttl-seconds", type=whole_number, metavar="S", help="limit for the whole VM, boot included")
    parser.add_argument("--network", action="store_true", help="not supported yet")
    parser.add_argument("--timings", action="store_true", help="say at the end where the time went")
    add_json_flag(parser)
    parser.set_defaults(command=[], example="pyro run ENV -- ls -la")  # the command is what stands behind `--`


def execute(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from pyro_mcp.models import RunFinished, RunRequest
    from pyro_mcp.phases import recording
    from pyro_mcp.sdk import Pyro

    request = RunRequest(
        environment=arguments.environment,
        command=utf8_words(arguments.command),
        vcpu_count=arguments.vcpu_count,
        mem_mib=arguments.mem_mib,
        timeout_seconds=arguments.timeout_seconds,
        ttl_seconds=arguments.ttl_seconds,
        network=arguments.network,
        stdin=True,
        timings=arguments.timings,
    )
    timings = _timings() if arguments.timings else None
    with nullcontext() if timings is None else timings.told_of_failure(as_json=arguments.json):
        with recording(None if timings is None else timings.recorder):
            run = Pyro().stream_in_vm(request)
        from pyro_mcp.cli.run_session import RunSession  # while the machine boots

        on_phase = None if timings is None else timings.take_in
        session = RunSession(run, RunFinished, keep_output=arguments.json, on_phase=on_phase)
        finished = session.follow()
    if timings is not None:
        timings.end()
    if arguments.json:
        result = session.result(finished)
        print(json.dumps(result if timings is None else {**result, "timings": timings.as_json()}, indent=2))
    else:
        if finished.timed_out:
            limit = arguments.timeout_seconds
            tell(f"pyro: the command reached its limit of {limit} s; give it more with --timeout-seconds\n")
        tell(
            f"[run] environment={finished.environment} vmm={finished.vmm} exit_code={finished.exit_code} "
            f"duration_ms={finished.duration_ms}\n"
        )
        if timings is not None:
            timings.show()
    return finished.exit_code


def _timings() -> "Timings":
    from pyro_mcp.cli.timings import Timings

    return Timings()
