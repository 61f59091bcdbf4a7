"""Errors as a model gets to see them: a code, a sentence, a hint; no paths of the host that it did not name itself."""

import os
import re
import sys
import traceback
from collections.abc import Collection
from pathlib import Path

import pyro_mcp
from pyro_mcp.config import Settings
from pyro_mcp.errors import CommandNotStarted, InternalError, PyroError
from pyro_mcp.mcp.hints import for_models

_MOST_CHARACTERS = 4000
_PATH = re.compile(r"(?<![\w./])/[\w.@+~/:-]+")
_PATH_GIVEN = re.compile(r'"(/[^"\\]+)"')  # in arguments as JSON: a value that is a path, not one within a shell line
# Where guests have their workspace, what every host has, and our own API.
_COMMON = ("/workspace", "/dev", "/proc", "/sys", "/bin", "/usr", "/etc", "/v1")
# Errors that show the guest's own files, whose paths may look like any of this host's.
_OF_THE_GUEST = ("bad_patch", "patch_failed")


def failure_text(error: Exception, given: str, tools: Collection[str] = ()) -> str:
    """What a model that has these tools is told of a failure; one that nobody foresaw goes to stderr in full.

    `given` is what the model sent.
    """
    if not isinstance(error, PyroError):
        traceback.print_exception(error, file=sys.stderr)
        error = InternalError(
            "internal", "this is a fault of pyro's own", "try another way; the user finds more in the log"
        )
    message = error.message.strip()
    # Some show lines of a file or a console.
    words = f"{error.code}: " + (f"{message}\n" if "\n" in message else _sentence(message))
    if error.hint:
        words += f" Hint: {_sentence(for_models(error.hint, tools))}"
    told_by_guest = isinstance(error, CommandNotStarted) or error.code in _OF_THE_GUEST
    return (words if told_by_guest else without_host_paths(words, given))[:_MOST_CHARACTERS]


def _sentence(words: str) -> str:
    """The words with a full stop, unless they end in one or in a question mark."""
    return words if words.endswith((".", "?", "!")) else f"{words}."


def without_host_paths(words: str, given: str) -> str:
    """The words without paths of this host, save those that stand in what the caller gave, and what is below those."""
    for root, name in _private_folders():
        if root not in given:
            words = re.sub(rf"{re.escape(root)}(?![\w@+~-]|\.\w)", name, words)
    below_given = tuple(f"{path.rstrip('/')}/" for path in _PATH_GIVEN.findall(given) if path.strip("/"))

    def hidden(found: "re.Match[str]") -> str:
        path = found[0].rstrip(".:")
        rest = found[0][len(path) :]
        told = path in given or path.startswith(below_given) or _is_common(path)
        return found[0] if told else f"(a path of the host){rest}"

    return _PATH.sub(hidden, words)


def _is_common(path: str) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in _COMMON)


def _private_folders() -> list[tuple[str, str]]:
    """Folders of the user's that messages may name, the longest first, with what stands for them.

    A working directory at /workspace, as in containers for development, cannot be told from the guest's.
    """
    folders = {os.path.dirname(pyro_mcp.__file__): "(pyro)", sys.prefix: "(pyro)", os.getcwd(): "."}
    folders = {folder: name for folder, name in folders.items() if not _is_common(folder)}
    try:
        settings = Settings.from_environment()
        folders |= {str(settings.cache_dir): "$PYRO_CACHE_DIR", str(settings.home): "$PYRO_HOME"}
        if settings.runtime_bundle_dir is not None:
            folders[str(settings.runtime_bundle_dir)] = "$PYRO_RUNTIME_BUNDLE_DIR"
    except PyroError:
        pass  # the error that is being told says so, as a rule
    folders |= {os.path.realpath(folder): name for folder, name in folders.items()}
    return sorted(((f, name) for f, name in folders.items() if len(Path(f).parts) > 1), key=lambda pair: -len(pair[0]))
