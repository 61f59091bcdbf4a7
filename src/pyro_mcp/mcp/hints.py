"""Hints and notices name commands of `pyro`; a model that has no shell of the host gets its tools' names instead."""

import re
from collections.abc import Collection

# What a hint may name after the command: words that stand for something, ids, and a command for the guest. With flags,
# which tools need not have, it stays as it is.
_ARGUMENTS = r"(?: -- [^;`]*| [A-Z]+\b| [a-z]+-[a-z0-9]+\b)*+(?! --[a-z])"
_COMMANDS = {"vm_run": "run", "vm_list_environments": "env list"}  # of tools that have another name
_FOR_THE_USER = " (that is for the user to run)"


def for_models(hint: str, tools: Collection[str]) -> str:
    """The hint with commands replaced by those of `tools` that do the same; what is left is for the user."""
    for tool in sorted(tools, key=len, reverse=True):
        command = _command_of(tool)
        hint = re.sub(rf"`?\bpyro {command}\b{_ARGUMENTS}`?", tool, hint)
    left = re.search(r"\bpyro [a-z]", hint)
    return hint + _FOR_THE_USER if left and "the user" not in hint else hint


def _command_of(tool: str) -> str:
    """The words on the command line that do what a tool does."""
    return _COMMANDS.get(tool) or tool.replace("_", " ")
