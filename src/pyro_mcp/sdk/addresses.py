"""What a request is addressed to, as paths of the daemon's API and of the host."""

import os
from urllib.parse import quote

from pyro_mcp.errors import InvalidRequest, NotFound

_LONGEST_NAME = 255  # characters; names and ids are shorter, and a request's first line is limited


def environment_path(environment: str) -> str:
    """The path of one environment, whatever it is called."""
    return f"/v1/environments/{_segment(environment)}"


def workspace_path(workspace: str, rest: str = "") -> str:
    """The path of a workspace or of something in it. Raises `NotFound` for what cannot be a name or an id."""
    if not 0 < len(workspace) <= _LONGEST_NAME:
        raise NotFound("unknown_workspace", f"no workspace is called {workspace[:40]!r}", "see `pyro workspace list`")
    return f"/v1/workspaces/{_segment(workspace)}{rest}"


def exec_path(workspace: str, exec_id: str, rest: str = "") -> str:
    """The path of a command in a workspace's history. Raises `NotFound` for what cannot be an id."""
    if not 0 < len(exec_id) <= _LONGEST_NAME:
        raise NotFound("unknown_command", f"no command is called {exec_id[:40]!r}", "see `pyro workspace logs W`")
    return workspace_path(workspace, f"/execs/{_segment(exec_id)}{rest}")


class CheckedPath(str):
    """A path of the host that was resolved and found allowed.

    It is used as it stands: links that are put in its way afterwards make it an error instead of leading elsewhere.
    """

    __slots__ = ()


def source_path(path: str | os.PathLike[str]) -> str:
    """Where something of the host is read from, absolute: the daemon has a working directory of its own.

    Symbolic links are followed here, as the user's own.
    """
    text = _text(path)
    return text if isinstance(text, CheckedPath) else os.path.realpath(text)


def output_path(path: str | os.PathLike[str]) -> str:
    """Where something new is made: links on the way to its folder are followed, its own name is not."""
    text = _text(path)
    if isinstance(text, CheckedPath):
        return text
    folder, name = os.path.split(text.rstrip("/") or text)
    if name in ("", ".", ".."):
        return os.path.realpath(text)
    return os.path.join(os.path.realpath(folder), name)


def _text(path: str | os.PathLike[str]) -> str:
    text = os.fspath(path)
    if not text or "\0" in text:
        raise InvalidRequest("bad_path", f"{text!r} is not a path", "give the path of a file or folder")
    return text


def _segment(word: str) -> str:
    # Twice: the server undoes one layer before it looks for slashes. Real names and ids stay as they are.
    return quote(quote(word, safe="", errors="replace"), safe="")
