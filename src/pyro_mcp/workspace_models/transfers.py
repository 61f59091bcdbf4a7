"""Files that come from the host or go there."""

from dataclasses import dataclass

from pyro_mcp.models.event import Event
from pyro_mcp.workspace_models.constants import WORKSPACE_FOLDER


@dataclass(frozen=True)
class SyncPush:
    """Copy a folder's content of the host into `dest` (a folder below `/workspace`)."""

    source: str
    dest: str = WORKSPACE_FOLDER
    all: bool = False


@dataclass(frozen=True)
class SyncReport(Event):
    """What was copied; `bytes` counts the files' contents."""

    files: int
    bytes: int
    dest: str


@dataclass(frozen=True)
class ExportPath:
    """Copy a file or folder of a workspace to `output`, which must not exist, or be an empty folder.

    What is called `.git` stays behind unless `include_git`: git runs programs that a repository's hooks and settings
    name, and those in it may be the guest's.
    """

    path: str
    output: str
    include_git: bool = False


@dataclass(frozen=True)
class ExportReport(Event):
    """What was copied to `output`; `bytes` counts the files' contents.

    `skipped` names what was not copied: links that lead out of the exported folder, pipes, sockets and devices, and
    `.git` unless it was asked for; of more than 1,000 names the last entry says how many more there are.
    `skipped_kinds` says in words what kinds of things those are, `skipped_count` how many.
    """

    output: str
    files: int
    bytes: int
    skipped: tuple[str, ...] = ()
    skipped_kinds: tuple[str, ...] = ()
    skipped_count: int = 0
