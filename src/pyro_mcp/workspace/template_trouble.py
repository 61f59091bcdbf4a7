"""What went wrong with templates last, for `pyro doctor` to tell; nothing depends on it."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from pyro_mcp.guest.printable import printable
from pyro_mcp.images import store
from pyro_mcp.workspace.record import now

NOT_MADE = "no template could be made"
DISCARDED = "a machine could not begin from a template, which was thrown away"
_FILE = "trouble.json"
_LONGEST = 500  # characters of a reason, which may end with a guest's console


@dataclass(frozen=True)
class Trouble:
    """`what` happened `at` which time to the template of that name, and has not been mended since.

    `bundle` is the digest of the runtime bundle that was in use.
    """

    name: str
    bundle: str
    at: str
    what: str
    why: str


def note(folder: Path, name: str, bundle: str, what: str, why: str) -> None:
    """Keep it in mind, instead of what was wrong before."""
    with contextlib.suppress(OSError):
        trouble = Trouble(name, bundle, now().isoformat(), what, why[:_LONGEST])
        store.write_json(folder / _FILE, trouble, lasting=False)


def noted(folder: Path) -> Trouble | None:
    """What is wrong, as far as it is known, harmless to a terminal: somebody may have written anything there."""
    trouble = store.read_json(folder / _FILE, Trouble)
    if trouble is None:
        return None
    return Trouble(trouble.name, trouble.bundle, *(printable(each) for each in (trouble.at, trouble.what, trouble.why)))


def forget(folder: Path, name: str | None = None) -> None:
    """That template has been made by now; or, without a name, whatever was wrong is to be tried again."""
    trouble = noted(folder)
    if name is None or (trouble is not None and trouble.name == name):
        with contextlib.suppress(OSError):
            (folder / _FILE).unlink(missing_ok=True)
