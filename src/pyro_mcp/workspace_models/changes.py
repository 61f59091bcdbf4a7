"""Patches, and what differs from the baseline."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ApplyPatch:
    """A unified diff to apply, all or nothing."""

    patch: str


@dataclass(frozen=True)
class PatchedFile:
    """One file of an applied patch: `change` is added, modified, deleted or renamed."""

    path: str
    change: str
    hunks: int
    old_path: str | None = None
    offset_lines: int = 0  # the farthest that a hunk stood from where it said


@dataclass(frozen=True)
class PatchReport:
    """What a patch changed."""

    files: tuple[PatchedFile, ...]


@dataclass(frozen=True)
class DiffRequest:
    """Compare with the baseline. `max_bytes` bounds the text (files beyond it are listed without it)."""

    max_bytes: int = 4 << 20


@dataclass(frozen=True)
class DiffEntry:
    """One difference: `change` is added, modified, deleted, renamed, mode or type (file to symlink, say)."""

    path: str
    change: str
    kind: str = "file"
    old_path: str | None = None
    old_mode: int | None = None
    new_mode: int | None = None
    insertions: int = 0
    deletions: int = 0
    binary: bool = False


@dataclass(frozen=True)
class DiffReport:
    """All differences from the baseline, and as text that `git apply` takes.

    `truncated` if `text` leaves out what did not fit. Folders and what is below a `.git` are not compared.
    """

    entries: tuple[DiffEntry, ...]
    text: bytes
    truncated: bool
    insertions: int
    deletions: int
