"""A cache for one test alone, with debian:12 in it, and what became of the templates in a cache."""

import re
import shutil
from pathlib import Path

from pyro_mcp import sparse
from pyro_mcp.images import store
from pyro_mcp.images.store import Store
from tests.vm.pyro_command import PyroCommand

_ENVIRONMENT = "debian:12"
_VERDICT = "kvm.json"  # on this host's KVM, which takes seconds to find out

_TROUBLE = re.compile(r" WARNING pyro_mcp\.workspace\.(boot|templates): ")


def copied_cache(folder: Path) -> Path:
    """A cache with the user's debian:12 and nothing else, which may be harmed."""
    users = Store(PyroCommand(folder).client.settings.cache_dir)
    ours = Store(folder / "cache")
    ours.prepare()
    installed = store.reference(users, _ENVIRONMENT)
    assert installed is not None
    shutil.copy(users.reference_file(_ENVIRONMENT), ours.environments)
    shutil.copytree(users.image_folder(installed.digest), ours.image_folder(installed.digest))
    if (users.cache_dir / _VERDICT).exists():
        shutil.copy(users.cache_dir / _VERDICT, ours.cache_dir)
    return ours.cache_dir


def templates_in(folder: Path) -> set[Path]:
    """The templates of a cache's folder for them, half made ones too."""
    return {entry for entry in folder.glob("*") if entry.is_dir()}


def copy_template(source: Path, target: Path) -> None:
    """Copy its folder; its files are mostly holes."""
    shutil.copytree(source, target, copy_function=_copy_with_holes)


def trouble_with_templates(home: Path) -> list[str]:
    """What the log of a daemon says of machines that did not begin as they should have."""
    lines = (home / "daemon.log").read_text().splitlines()
    return [line for line in lines if _TROUBLE.search(line)]


def _copy_with_holes(source: str, target: str) -> None:
    with open(source, "rb") as file, open(target, "xb") as copy:
        sparse.copy(file.fileno(), copy.fileno())
    shutil.copystat(source, target)
