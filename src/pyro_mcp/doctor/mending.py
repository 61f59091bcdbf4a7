"""Command lines that mend things, ready to be pasted by this user."""

import os
from collections.abc import Iterable


def as_root(command: str) -> str:
    """The command as this user would type it: root needs no sudo, and small machines may have none."""
    return command if os.geteuid() == 0 else f"sudo {command}"


def apt_install(packages: Iterable[str]) -> str:
    return as_root(f"apt-get install {' '.join(packages)}")
