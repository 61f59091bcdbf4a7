"""Paths in a workspace, as its users write them and as the agent takes them."""

import posixpath

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.workspace_models import WORKSPACE_FOLDER

_PATH_BYTES = 4095  # what Linux takes (PATH_MAX), without the NUL at its end


def inside(path: str) -> str:
    """The absolute form of a path below `/workspace`, or of that folder; relative ones are relative to it.

    `.` and `..` are resolved by the words alone. What symbolic links make of the path is up to the agent, which never
    leaves the folder. Raises `InvalidRequest`: `outside_workspace`, `bad_path`.
    """
    if not path or "\0" in path:
        said = "the path holds a NUL byte" if path else "the path is empty"
        raise InvalidRequest("bad_path", said, f"give a path below {WORKSPACE_FOLDER}, or . for that folder")
    # Two slashes at the beginning would be kept by `normpath`, as POSIX lets them mean something else.
    whole = posixpath.normpath(f"/{posixpath.join(WORKSPACE_FOLDER, path).lstrip('/')}")
    if whole != WORKSPACE_FOLDER and not whole.startswith(WORKSPACE_FOLDER + "/"):
        raise InvalidRequest(
            "outside_workspace",
            f"{_shown(path)} is not in {WORKSPACE_FOLDER}",
            f"paths are relative to {WORKSPACE_FOLDER}, or absolute below it",
        )
    try:
        length = len(whole.encode())
    except UnicodeEncodeError:
        raise InvalidRequest("bad_path", f"the path {_shown(path)} is not Unicode text") from None
    if length > _PATH_BYTES:
        raise InvalidRequest("bad_path", f"the path is longer than {_PATH_BYTES} bytes")
    return whole


def _shown(path: str) -> str:
    return ascii(path[:200])
