"""Paths of this host as they were typed: the daemon follows no symbolic link, so the user's are followed here."""

import os


def source_path(typed: str) -> str:
    """Where something is read from."""
    return os.path.realpath(typed)


def output_path(typed: str) -> str:
    """Where something new is made: the folder that it goes into is followed, its own name is not."""
    folder, name = os.path.split(typed.rstrip("/") or typed)
    if name in ("", ".", ".."):
        return os.path.realpath(typed)
    return os.path.join(os.path.realpath(folder), name)
