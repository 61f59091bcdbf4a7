"""Files of a workspace: listed, read, written."""

from dataclasses import dataclass

from pyro_mcp.workspace_models.constants import WORKSPACE_FOLDER


@dataclass(frozen=True)
class ListFiles:
    """What is in a folder; `limit` (1 to 100000) bounds how much is listed."""

    path: str = WORKSPACE_FOLDER
    recursive: bool = False
    limit: int = 10_000


@dataclass(frozen=True)
class FileEntry:
    """One file: `kind` is file, directory, symlink or other; `size` in bytes, `mode` as permission bits."""

    path: str
    kind: str
    size: int
    mode: int
    modified_at: str
    target: str | None = None


@dataclass(frozen=True)
class FileListing:
    """A folder's entries, sorted by path; `truncated` if there are more."""

    path: str
    entries: tuple[FileEntry, ...]
    truncated: bool


@dataclass(frozen=True)
class ReadFile:
    """A file's content from `offset`, at most `max_bytes` (1 to `FILE_BYTES`)."""

    path: str
    max_bytes: int = 1 << 20
    offset: int = 0


@dataclass(frozen=True)
class FileContent:
    """Part of a file; `size` is that of the whole."""

    path: str
    offset: int
    data: bytes
    size: int
    truncated: bool


@dataclass(frozen=True)
class WriteFile:
    """A file's new content (at most `FILE_BYTES`); missing folders are made, the old mode is kept."""

    path: str
    data: bytes


@dataclass(frozen=True)
class WrittenFile:
    """What was written; `created` if the file was not there before."""

    path: str
    size: int
    created: bool
