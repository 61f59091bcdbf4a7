"""Which images workspaces need, wherever their homes are.

A workspace boots from the very image that it was made from, also when its environment's name stands for a newer one. A
cache may be shared by several homes, so each workspace leaves a file in the cache. It counts for as long as the folder
that it names as its owner is there: one whose home was removed by hand keeps no image for ever.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from pyro_mcp import models
from pyro_mcp.errors import InvalidRequest
from pyro_mcp.images.store import Store, unusable, write_json


@dataclass(frozen=True)
class Use:
    """An image that is needed for as long as the folder `owner` (absolute) is there."""

    digest: str
    owner: str


def keep(store: Store, digest: str, owner: Path) -> None:
    """From now on that image is not removed while `owner` is there. Call it while the image is open.

    Raises `HostUnfit` where the cache cannot be written, or its disk is full.
    """
    with store.lock():
        file = _file(store, owner)
        try:
            file.parent.mkdir(exist_ok=True)
            write_json(file, Use(digest, str(owner)))
        except OSError as error:
            raise unusable(file.parent, error) from error


def release(store: Store, owner: Path) -> None:
    """Whatever `owner` needed it needs no longer."""
    _file(store, owner).unlink(missing_ok=True)


def needed(store: Store) -> set[str]:
    """The digests of the images that workspaces need; for whoever holds the store's lock."""
    found = (_read(file) for file in folder(store).glob("*.json"))
    return {use.digest for use in found if use is not None and _may_be_there(use.owner)}


def sweep(store: Store) -> None:
    """Forget the owners that are gone; for whoever holds the store's lock."""
    for file in folder(store).glob("*.json"):
        use = _read(file)
        if use is not None and not _may_be_there(use.owner):
            file.unlink(missing_ok=True)


def folder(store: Store) -> Path:
    """Where they are written down, each under the store's lock."""
    return store.cache_dir / "uses"


def _file(store: Store, owner: Path) -> Path:
    return folder(store) / f"{hashlib.sha256(os.fsencode(owner)).hexdigest()[:32]}.json"


def _read(file: Path) -> Use | None:
    try:
        return models.decode(Use, json.loads(file.read_text()))
    except (OSError, ValueError, InvalidRequest):
        return None


def _may_be_there(owner: str) -> bool:
    try:
        os.stat(owner)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # in a folder that we may not enter
    return True
