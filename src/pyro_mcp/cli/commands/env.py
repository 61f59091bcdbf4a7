"""`pyro env`: list, inspect, pull, prune."""

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING

from pyro_mcp.cli.parsing import add_json_flag
from pyro_mcp.cli.streams import tell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyro_mcp.models import EnvironmentInfo, PruneReport, TemplateInfo
    from pyro_mcp.sdk import Pyro

EPILOG = """\
Next:
  pyro env list
  pyro env pull debian:12
  pyro run debian:12 -- git --version
"""
_ACTIONS = {
    "list": "the catalog and what is installed",
    "inspect": "digest, size, source, templates and packages of one environment",
    "pull": "install an environment, or renew it",
    "prune": "remove what nothing uses; says how much it freed",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands and their flags."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing, inspect, pull, prune = (
        actions.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".", epilog=EPILOG)
        for name, summary in _ACTIONS.items()
    )
    for named in (inspect, pull):
        named.add_argument("environment", metavar="ENV", help="a name from `pyro env list`, such as debian:12")
    pull.add_argument("--source", metavar="URL", help="another Debian mirror than the one this host's apt uses")
    prune.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    for action in (listing, inspect, pull, prune):
        add_json_flag(action)


def execute(arguments: argparse.Namespace) -> int:
    """Run one sub-command and return the exit code."""
    from pyro_mcp.sdk import Pyro

    pyro = Pyro()
    match arguments.action:
        case "list":
            _print_list(pyro.list_environments(), arguments.json)
        case "inspect":
            _print_one(pyro.inspect_environment(arguments.environment), arguments.json)
        case "pull":
            _pull(pyro, arguments)
        case _:
            _print_pruned(pyro.prune_environments(dry_run=arguments.dry_run), arguments.json)
    return 0


def _pull(pyro: "Pyro", arguments: argparse.Namespace) -> None:
    from pyro_mcp.cli.progress import ProgressPrinter

    printer = ProgressPrinter()
    try:
        installed = pyro.pull_environment(arguments.environment, source=arguments.source, on_progress=printer.show)
    finally:
        printer.clear()
    if arguments.json:
        _print_one(installed, as_json=True)
    else:
        print(f"{installed.name} installed: {_size(installed.size_bytes)}, {installed.digest}")


def _print_list(listed: "Sequence[EnvironmentInfo]", as_json: bool) -> None:
    if as_json:
        rows = [_in_short(info) for info in listed]
        print(json.dumps(rows, indent=2))
        return
    width = max(len(info.name) for info in listed)
    for info in listed:
        state = _size(info.size_bytes) if info.installed else "not installed"
        print(f"{info.name:{width}}  {state:>13}  {info.description}")


def _print_one(info: "EnvironmentInfo", as_json: bool) -> None:
    if as_json:
        print(json.dumps(dataclasses.asdict(info), indent=2))
        return
    print(f"name:       {info.name}")
    print(f"about:      {info.description}")
    if not info.installed:
        print(f"installed:  no (pyro env pull {info.name})")
        return
    print(f"installed:  {info.installed_at}")
    print(f"digest:     {info.digest}")
    print(f"size:       {_size(info.size_bytes)}")
    print(f"source:     {info.source}")
    print(f"templates:  {len(info.templates)}")
    for template in info.templates:
        print(f"  {_in_words(template, info)}")
    print(f"packages:   {len(info.contents)}")
    for package in info.contents:
        print(f"  {package}")


def _print_pruned(report: "PruneReport", as_json: bool) -> None:
    if as_json:
        print(json.dumps(dataclasses.asdict(report), indent=2))
        return
    for name in report.removed:
        print(name)
    verb = "would free" if report.dry_run else "freed"
    tell(f"{verb} {_size(report.freed_bytes)} ({report.freed_bytes} bytes)\n")


def _in_words(template: "TemplateInfo", of: "EnvironmentInfo") -> str:
    facts = template.facts
    unused = None if template.unused is None else f"unused: {template.unused}"
    if facts is None:
        return f"{template.name}: {_size(template.size_bytes)}; {unused or 'what it is of is not known'}"
    earlier = "" if facts.digest == of.digest else " (of another image of this name)"
    return f"{facts.machine}{earlier}: {_size(template.size_bytes)}; {unused or facts.saving}"


def _in_short(info: "EnvironmentInfo") -> dict[str, object]:
    """Without what is only told where one is asked for."""
    return {name: value for name, value in dataclasses.asdict(info).items() if name not in ("contents", "templates")}


def _size(count: int | None) -> str:
    return "-" if count is None else f"{count / (1 << 20):.1f} MiB"
