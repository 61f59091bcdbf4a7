"""The folders of state and environments: may they be written, and is there room?"""

import asyncio
import errno
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pyro_mcp.config import Settings
from pyro_mcp.doctor.mending import as_root
from pyro_mcp.doctor.report import Row, failed, listed, passed, size, warning
from pyro_mcp.images import catalog
from pyro_mcp.workspace.template_stages import PREPARED

NAME = "disk"
_MIB = 1024 * 1024
# Sockets, locks, logs, and the file system of a VM's disk; less than this is as good as nothing.
_LEAST_BYTES = 16 * _MIB


@dataclass(frozen=True)
class Place:
    """A folder, the setting that moves it elsewhere, and the bytes that it should have room for."""

    folder: Path
    setting: str
    wanted_bytes: int


@dataclass(frozen=True)
class Finding:
    """How a place is: bytes free, and why it cannot be written (None if it can)."""

    place: Place
    free_bytes: int
    unwritable: str | None


async def examine(settings: Settings) -> Row:
    pull, disk = catalog.lookup(catalog.DEFAULT).build_bytes, PREPARED.disk_mib * _MIB
    places = (
        Place(settings.cache_dir, "PYRO_CACHE_DIR", pull + disk),
        Place(settings.home, "PYRO_HOME", _LEAST_BYTES),
    )
    findings = [await asyncio.to_thread(look_at, place) for place in places]
    need = f"a pull of {catalog.DEFAULT} takes up to {size(pull)}, the disk of a VM up to {size(disk)}"
    return row_for(findings, need)


def look_at(place: Place) -> Finding:
    """Look at a folder, or where it would be made, by making a file without a name in it."""
    folder = place.folder
    while not os.path.lexists(folder):
        folder = folder.parent
    try:
        tempfile.TemporaryFile(dir=folder).close()
        return Finding(place, shutil.disk_usage(folder).free, None)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return Finding(place, 0, None)
        return Finding(place, 0, f"{folder} cannot be written ({error.strerror})")


def row_for(findings: Sequence[Finding], need: str) -> Row:
    for finding in findings:
        if finding.unwritable is not None:
            return failed(NAME, finding.unwritable, _mend_unwritable(finding.place))
    free = listed(f"{size(finding.free_bytes)} free in {finding.place.folder}" for finding in findings)
    for finding in findings:
        place = finding.place
        if finding.free_bytes < place.wanted_bytes:
            mend = f"free some space (pyro env prune), or set {place.setting} to a folder on a larger disk"
            make_row = failed if finding.free_bytes < _LEAST_BYTES else warning
            return make_row(NAME, f"{place.folder} has little room: {free}; {need}", mend)
    return passed(NAME, f"{free}; {need}")


def _mend_unwritable(place: Place) -> str:
    owner = f"{os.geteuid()}:{os.getegid()}"
    chown = as_root(f"chown -R {owner} {place.folder}")
    return f"{chown} (if it is there), or set {place.setting} to a folder that you can write"
