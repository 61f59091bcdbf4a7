"""The folders of the host that tools may reach: those that the user named, and the one that the chat host works in."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyro_mcp.errors import InvalidRequest, NotFound
from pyro_mcp.sdk.addresses import CheckedPath
from pyro_mcp.transfer.host_paths import allowed

_HINT = "use a path below the project's folder; the user allows others with `pyro mcp serve --allow-path DIR`"
_FROM_WHERE = "relative paths start in the folder that the chat host was started in, as a rule the user's project"


@dataclass(frozen=True)
class AllowedFolders:
    """Folders as they really are (no symlinks left in their paths); `base` is what relative paths start from."""

    roots: tuple[Path, ...]
    base: Path

    def source(self, path: str) -> str:
        """A path to read from, resolved. Raises `InvalidRequest` if it is in none of the folders, and `NotFound`."""
        resolved, _ = self._resolved(path)
        if _is_missing(resolved):
            raise NotFound("path_not_found", f"there is no {path[:200]!r} on the user's machine", _FROM_WHERE)
        return CheckedPath(resolved)

    def output(self, path: str) -> str:
        """A path to write to, resolved. Raises `InvalidRequest` if it is in none of the folders, or hidden.

        Raises `NotFound` where there is no folder to write it into.

        Hidden files and folders hold what programs of the user run by themselves: git's hooks, the settings of editors,
        shells and chat hosts. A workspace's files must not come to stand there.
        """
        resolved, root = self._resolved(path)
        if any(part.startswith(".") for part in resolved.relative_to(root).parts):
            raise InvalidRequest(
                "path_not_allowed",
                f"cannot export to {path!r}: names that begin with a dot are not written to",
                "export to a path without hidden folders; the user can move it from there",
            )
        if resolved == root:
            raise InvalidRequest(
                "path_not_allowed",
                f"cannot export to {path!r}: it is an allowed folder itself",
                "export to a new name in it",
            )
        if _is_missing(resolved.parent):
            raise NotFound(
                "path_not_found",
                f"there is no folder on the user's machine to write {path[:200]!r} into",
                f"name a folder that exists; {_FROM_WHERE}",
            )
        return CheckedPath(resolved)

    def _resolved(self, path: str) -> tuple[Path, Path]:
        """Where a path really leads, and in which of the folders that is."""
        if not path:
            raise InvalidRequest("bad_argument", "a path must not be empty", "use . for the working directory")
        try:
            resolved = allowed(self.base / path, self.roots)
        except InvalidRequest as error:
            # Named as the caller did: where a relative path leads is none of its business.
            raise InvalidRequest(error.code, f"cannot use the path {path[:200]!r}", _HINT) from error
        holding = [root for root in self.roots if resolved.is_relative_to(root)]
        return resolved, max(holding, key=lambda root: len(root.parts))


def allowed_folders(named: Sequence[str], environ: Mapping[str, str], cwd: Path) -> AllowedFolders:
    """The folders that the user named, the working directory and CLAUDE_PROJECT_DIR.

    The latter two count only where they are a project's folder: a chat host started in the home directory, or above
    it, does not mean to hand all of it to a model.
    """
    roots = [Path(os.path.realpath(cwd / folder)) for folder in named]
    for implied in (str(cwd), environ.get("CLAUDE_PROJECT_DIR", "")):
        if implied.startswith("/") and os.path.isdir(implied):
            folder = Path(os.path.realpath(implied))
            if not _holds_home(folder, environ.get("HOME", "")):
                roots.append(folder)
    return AllowedFolders(tuple(dict.fromkeys(roots)), cwd)


def _is_missing(path: Path) -> bool:
    """Whether nothing stands there. Anything else that is wrong with a path is found out by whoever opens it."""
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        pass
    return False


def _holds_home(folder: Path, home: str) -> bool:
    if folder == folder.parent:
        return True
    return home.startswith("/") and Path(os.path.realpath(home)).is_relative_to(folder)
