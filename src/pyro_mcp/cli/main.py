"""`pyro`: finds the command's module, runs it, and turns what it raises into an exit code.

Start-up is kept short: only the module of the command that is typed gets imported.
"""

import gc
import sys
from importlib import import_module

from pyro_mcp.cli import streams
from pyro_mcp.version import __version__

TYPE_CHECKING = False  # as in `pyro_mcp`
if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Sequence

    from pyro_mcp.cli.parsing import HelpfulParser

# As many objects as a command makes to start are no garbage, and looking for some among them took it some 5 %.
_OBJECTS_UNTIL_COLLECTION = 20_000

# In the order of the help text: what it is called, and what it does.
COMMANDS = {
    "env": "environments: what can run in a VM, and what is installed",
    "mcp": "the MCP server for chat hosts: Claude Code, Codex, OpenCode",
    "run": "run one command in a throwaway VM",
    "workspace": "persistent workspaces: create, use, compare, export, delete",
    "doctor": "prove that this host can run guests, or say what mends it",
    "completion": "print the completion script for a shell",
}

# Those with a command for a guest behind `--`.
WITH_COMMAND = (("run",), ("workspace", "exec"))

_EPILOG = """\
From zero to a command in a VM of its own, and to a chat host that works in one:
  pyro doctor                          can this host run guests?
  pyro env list                        what they can be made of
  pyro env pull debian:12              install one (run does it by itself, too)
  pyro run debian:12 -- git --version
  pyro mcp serve                       what a chat host starts; connect yours with one of
      claude mcp add pyro -- pyro mcp serve
      codex mcp add pyro -- pyro mcp serve

A workspace from the terminal, beside the chat or without one:
  pyro workspace create debian:12 --seed-path . --name demo
  pyro workspace exec demo -- git status
  pyro workspace diff demo
  pyro workspace export demo . --output ./demo-out
  pyro workspace delete demo
"""


def main(argv: "Sequence[str] | None" = None) -> int:
    """Run one command line and return its exit code: 0 ok, 1 the user's problem, 2 ours, or the guest's own."""
    gc.set_threshold(_OBJECTS_UNTIL_COLLECTION)
    streams.ensure_open()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _print_version() if words == ["--version"] else _run(words)
    except KeyboardInterrupt:
        return _interrupted("--json" in _own_words(words))
    finally:
        if argv is None:
            # The process ends with this. What is left is no garbage either, and Python would look for some once more:
            # of a long listing that took a third of the time.
            gc.freeze()


def _run(words: list[str]) -> int:
    from pyro_mcp.cli.failure import reported

    with reported("--json" in _own_words(words)) as outcome:
        arguments = _parse(words)
        outcome.workspace = getattr(arguments, "workspace", None)
        outcome.exit_code = import_module(f"pyro_mcp.cli.commands.{arguments.verb}").execute(arguments)
    return outcome.exit_code


def _interrupted(as_json: bool) -> int:
    """Say that the user stopped it while `reported` was not there yet, or not any more; nothing is imported for it."""
    in_json = '{"error": {"code": "interrupted", "message": "interrupted", "hint": null}}\n'
    streams.tell(in_json if as_json else "pyro: error: interrupted [interrupted]\n")
    return 130


def _print_version() -> int:
    try:
        print(f"pyro {__version__}", flush=True)
    except OSError:
        from pyro_mcp.cli.failure import reported  # not needed where all goes well, which is to be quick

        with reported(as_json=False) as outcome:
            print(f"pyro {__version__}", flush=True)  # fails once more, and is told now
        return outcome.exit_code
    return 0


def _parse(words: list[str]) -> "argparse.Namespace":
    wanted = next((word for word in words if not word.startswith("-")), "")
    from pyro_mcp.errors import InvalidRequest

    own, command = _split(words) if _takes_command(words) else (words, None)
    if own.count("--") > 1:  # which argparse would drop, or fall over
        raise InvalidRequest("bad_usage", "`--` ends the options, and stands there twice", "a file called -- is ./--")
    parser = build_parser([wanted])
    arguments, unknown = parser.parse_known_args(own)
    takes_command = "command" in arguments
    misplaced = takes_command and command is None and unknown and not unknown[0].startswith("-")
    if unknown and not misplaced:
        _refuse(arguments.parser, own, unknown)
    if takes_command:
        if not command or not command[0]:
            why = f": {unknown[0]!r} does not stand behind `--`" if misplaced else ""
            hint = f"put the command behind `--`: {arguments.example}"
            raise InvalidRequest("no_command", f"there is no command to run{why}", hint)
        arguments.command = command
    return arguments


def _refuse(parser: "HelpfulParser", own: list[str], unknown: list[str]) -> None:
    """Refuse what nothing takes; `--` itself, which ends the options, is no such word."""
    before, behind = _split(own)
    strange = [word for word in unknown if word != "--"]
    if strange and behind and all(word in behind for word in strange):
        parser.error(f"`{parser.prog}` takes no command behind `--`")
    if strange:
        parser.refuse([word for word in strange if word in before] or strange)


def build_parser(verbs: "Collection[str]") -> "argparse.ArgumentParser":
    """The parser of the whole command line, with the flags of these verbs; the others are only named."""
    from pyro_mcp.cli.parsing import HelpfulParser

    parser = HelpfulParser(
        prog="pyro", description="Disposable Linux workspaces in microVMs for chat coding agents.", epilog=_EPILOG
    )
    parser.add_argument("--version", action="version", version=f"pyro {__version__}")
    actions = parser.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    for verb, summary in COMMANDS.items():
        module = import_module(f"pyro_mcp.cli.commands.{verb}") if verb in verbs else None
        epilog = None if module is None else module.EPILOG
        sub = actions.add_parser(verb, help=summary, description=summary[0].upper() + summary[1:] + ".", epilog=epilog)
        if module is not None:
            module.configure(sub)
    return parser


def _takes_command(words: list[str]) -> bool:
    """Whether what stands behind `--` is a command for a guest; elsewhere `--` ends the options, as usual."""
    named = tuple(word for word in _own_words(words) if not word.startswith("-"))
    return any(named[: len(path)] == path for path in WITH_COMMAND)


def _split(words: list[str]) -> tuple[list[str], list[str] | None]:
    """What stands before the first `--`, and what stands behind it (None: there is no `--`)."""
    if "--" not in words:
        return words, None
    at = words.index("--")
    return words[:at], words[at + 1 :]


def _own_words(words: list[str]) -> list[str]:
    return _split(words)[0]
