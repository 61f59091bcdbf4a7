"""`pyro completion`: what makes a shell complete pyro's commands and flags."""

import argparse

EPILOG = """\
Where it goes in zsh: a folder that `fpath` in ~/.zshrc names before compinit.

Next:
  pyro completion bash > ~/.local/share/bash-completion/completions/pyro
  pyro completion zsh > ~/.zfunc/_pyro
"""
SHELLS = ("bash", "zsh", "tcsh")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=f"one of {', '.join(SHELLS)}")


def execute(arguments: argparse.Namespace) -> int:
    """Print the script and return the exit code."""
    import shtab

    from pyro_mcp.cli.main import COMMANDS, build_parser
    from pyro_mcp.cli.parsing import load_all

    parser = build_parser(COMMANDS)
    load_all(parser)
    print(shtab.complete(parser, shell=arguments.shell))
    return 0
