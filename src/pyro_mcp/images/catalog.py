"""The environments that can be asked for by name."""

import difflib
from dataclasses import dataclass

from pyro_mcp.errors import NotFound

_MIB = 1024 * 1024
_SHOWN_CHARACTERS = 60  # of a name that is unknown; nobody reads more in an error


@dataclass(frozen=True)
class Environment:
    """One row of the catalog.

    `packages` are named on top of what every Debian has. `build_bytes` is the disk space that a build takes at its
    worst: unpacked tree, downloaded packages and finished image together, with room to grow.
    """

    name: str
    description: str
    suite: str
    packages: tuple[str, ...]
    build_bytes: int


_AGENT_PACKAGES = (
    "git",
    "ca-certificates",
    "curl",
    "openssh-client",
    "python3",
    "procps",
    "less",
    "ripgrep",
    "patch",
)
_BUILD_PACKAGES = ("gcc", "g++", "make", "cmake", "pkg-config", "python3-dev", "python3-venv")

CATALOG = (
    Environment(
        "debian:12",
        "Debian 12 with git, Python 3, curl, ssh and ripgrep: what a coding agent reaches for",
        "bookworm",
        _AGENT_PACKAGES,
        600 * _MIB,
    ),
    Environment(
        "debian:12-base", "Debian 12, minimal: a shell, coreutils, perl-base and apt", "bookworm", (), 500 * _MIB
    ),
    Environment(
        "debian:12-build",
        "debian:12 with compilers: gcc, g++, make, cmake and what building Python packages needs",
        "bookworm",
        _AGENT_PACKAGES + _BUILD_PACKAGES,
        1200 * _MIB,
    ),
)
DEFAULT = CATALOG[0].name


def lookup(name: str) -> Environment:
    """The environment of that name, or `NotFound` that shows the nearest one and all that there are."""
    for environment in CATALOG:
        if environment.name == name:
            return environment
    shown = name if len(name) <= _SHOWN_CHARACTERS else name[:_SHOWN_CHARACTERS] + "..."
    names = [environment.name for environment in CATALOG]
    nearest = difflib.get_close_matches(shown, names, n=1, cutoff=0.3)
    meant = f"did you mean {nearest[0]}? " if nearest else ""
    raise NotFound(
        "unknown_environment", f"there is no environment named {shown!r}", f"{meant}there are: {', '.join(names)}"
    )
