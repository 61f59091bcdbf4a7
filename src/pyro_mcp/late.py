"""Names of a package whose modules are imported when they are first wanted.

Python takes about 0.4 ms to make a frozen dataclass. Clients and daemon have some sixty of them to say to each other,
and most commands say two: what a command does not say it should not wait for.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def names_from(package: str, homes: "Mapping[str, Sequence[str]]") -> "Callable[[str], object]":
    """The `__getattr__` (PEP 562) of a package that offers the names in `homes`, each under the module it lives in.

    A module is named as in an import: `.sibling` or `pyro_mcp.elsewhere`.
    """
    home_of = {name: module for module, names in homes.items() for name in names}

    def find(name: str) -> object:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found: object = getattr(import_module(home_of[name], package), name)
        setattr(sys.modules[package], name, found)  # from now on it is found without this
        return found

    return find
