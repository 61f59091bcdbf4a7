"""Seeds: what of the host a new workspace starts with, as a read-only image.

A seed is a folder (of a git checkout what git sees, with its repository) or an archive. Its image is what a workspace
is compared with and reset to, so it is complete or not there at all.
"""

import asyncio
import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.transfer import archive_tar, compression, tree_tar
from pyro_mcp.transfer.host_paths import open_beneath, unsuitable
from pyro_mcp.transfer.limits import Tally, shown
from pyro_mcp.transfer.selection import select
from pyro_mcp.transfer.tar_writer import TarWriter
from pyro_mcp.transfer.tree_tar import Owners
from pyro_mcp.transfer.worker import in_thread
from pyro_mcp.workspace.seed_image import write_image
from pyro_mcp.workspace.transfer_progress import Report, left_out, reported, tell
from pyro_mcp.workspace_models import SeedInfo

_OPERATION = "seed"


def look_at(source: Path) -> None:
    """See that there is a folder or an archive at `source` that may be read. Blocks. Raises as `build_seed` does."""
    os.close(_open(source))


async def build_seed(source: Path, image: Path, *, everything: bool, report: Report) -> SeedInfo:
    """Write what `source` holds into a squashfs at `image`; `everything` takes a checkout as it is, ignored files too.

    `source` is absolute and leads through no symbolic link. Nothing is left of an image when this fails or is
    cancelled. Raises `NotFound`, `InvalidRequest` (with a code that says what is wrong with the source), `HostUnfit`.
    """
    fd = await asyncio.to_thread(_open, source)
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            return await _from_folder(source, image, everything, report)
        return await _from_archive(fd, source, image, report)
    finally:
        os.close(fd)


async def _from_folder(source: Path, image: Path, everything: bool, report: Report) -> SeedInfo:
    async with select(source, everything=everything, repository=True) as selection:
        scanning = Tally()
        await in_thread(partial(tree_tar.scan, selection.parts, scanning), scanning.stop)
        owners = Owners.of(selection.parts)
        tally = Tally()
        fill = partial(tree_tar.write, selection.parts, owners=owners, tally=tally)
        await _build(image, fill, tally, scanning.bytes, report)
    await tell(report, _OPERATION, (*selection.notices, *left_out(tally)))
    return SeedInfo(str(source), tally.files, tally.bytes)


async def _from_archive(fd: int, source: Path, image: Path, report: Report) -> SeedInfo:
    tally = Tally()
    await _build(image, lambda writer: archive_tar.rewrite(fd, str(source), writer, tally), tally, None, report)
    return SeedInfo(str(source), tally.files, tally.bytes)


async def _build(
    image: Path, fill: Callable[[TarWriter], None], tally: Tally, total_bytes: int | None, report: Report
) -> None:
    async with reported(report, _OPERATION, tally, total_bytes):
        await write_image(image, fill, tally.stop)


def _open(source: Path) -> int:
    """The folder or archive; anything else is refused before it is opened for reading."""
    probe = open_beneath(source, os.O_PATH)
    try:
        mode = os.fstat(probe).st_mode
    finally:
        os.close(probe)
    if stat.S_ISREG(mode) and not source.name.endswith(compression.SUFFIXES):
        raise InvalidRequest(
            "unknown_archive",
            f"{shown(str(source))} is no folder, and its name is not one of an archive",
            f"give a folder, or a file that ends in {', '.join(compression.SUFFIXES)}",
        )
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise unsuitable(str(source), "a socket, pipe or device")
    return open_beneath(source)
