"""Repositories in a tree that are not called `.git`, and how they become plain folders.

git takes a folder for a repository when it holds HEAD beside objects and refs, or beside commondir, which says where
those are (linked worktrees have it). Of which kind these entries are hardly matters to it: HEAD may be a link that
leads nowhere, objects and refs anything that may be executed. From then on it runs programs that config names.
"""

import os

_HEAD, _COMMON = "head", "commondir"
_STORE = frozenset({"objects", "refs"})
_REMOVED = frozenset({_HEAD, "config", "config.worktree"})
_TELLING = _STORE | _REMOVED | {_COMMON}


def is_head(name: bytes) -> bool:
    """Whether an entry of this name can make a folder a repository; there are file systems that ignore case."""
    return name.decode(errors="surrogateescape").casefold() == _HEAD


def disarm(folder: int) -> list[tuple[bytes, os.stat_result]]:
    """Remove HEAD and the settings of a folder that looks like a repository; returns what was removed, and its state.

    `folder` is a descriptor. Raises `OSError`.
    """
    with os.scandir(folder) as entries:
        found = [
            (entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries if entry.name.casefold() in _TELLING
        ]
    names = {name.casefold() for name, _ in found}
    if _HEAD not in names or not (names >= _STORE or _COMMON in names):
        return []
    removed = []
    for name, is_folder in sorted(found):
        if name.casefold() in _REMOVED and not is_folder:  # git reads no folder of such a name
            removed.append((os.fsencode(name), os.stat(name, dir_fd=folder, follow_symlinks=False)))
            os.unlink(name, dir_fd=folder)
    return removed
