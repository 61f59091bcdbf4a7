"""Writes a squashfs image from a tar stream that a thread makes.

sqfstar gets a stream of our own making: names, kinds and sizes in it were checked, only the files' contents are as they
came, and to those it does no more than compress them. So it runs with limits, but in no sandbox.
"""

import asyncio
import contextlib
import os
import resource
import secrets
import signal
from collections.abc import Callable
from pathlib import Path

from pyro_mcp import process
from pyro_mcp.errors import HostUnfit, InternalError, PyroError
from pyro_mcp.images import confine, rootfs
from pyro_mcp.to_the_end import to_the_end
from pyro_mcp.transfer.limits import MAX_BYTES
from pyro_mcp.transfer.tar_writer import TarWriter
from pyro_mcp.transfer.worker import in_thread

_PROGRAM = "sqfstar"
# lz4 as in environments: guests without KVM decompress by emulation. The top folder has no entry in the stream (sqfstar
# 4.5 drops one) and without a mode everybody may write to it. Its owner is whoever runs this (4.5 has options for that,
# which do nothing); in a workspace the top folder of the overlay's other layer stands before it.
# Without looking for duplicates, which compares each file with all others of its size: 100,000 of one size take minutes
# instead of seconds.
_OPTIONS = (
    *("-comp", "lz4", "-no-xattrs", "-no-progress", "-quiet", "-mem", "256M", "-root-mode", "755"),
    "-no-duplicates",
)
_LIMITS = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: MAX_BYTES + (2 << 30)}
_STDERR_BYTES = 4096


async def write_image(image: Path, fill: Callable[[TarWriter], None], stop: Callable[[], object]) -> None:
    """Make `image` (mode 0444, on disk for good) from what `fill` writes in a thread; nothing is left when that fails.

    `stop` makes `fill` end early; so does the pipe, which breaks when this is cancelled.

    Raises what `fill` raises, `HostUnfit` without sqfstar or disk space.
    """
    staged = image.with_name(f".{image.name}.{secrets.token_hex(4)}")
    try:
        await _squash(staged, fill, stop)
        await to_the_end(asyncio.to_thread(_settle, staged, image), lambda _: _remove(image))
    except OSError as error:
        raise InternalError("seed_failed", f"the seed's image could not be kept: {error.strerror}") from error
    finally:
        _remove(staged)


def _remove(file: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        file.unlink()


async def _squash(staged: Path, fill: Callable[[TarWriter], None], stop: Callable[[], object]) -> None:
    pipes = [*os.pipe(), *os.pipe()]
    reader, writer, err, err_writer = pipes
    try:
        argv = [_PROGRAM, *_OPTIONS, str(staged)]
        sqfstar = process.spawn(argv, env=confine.environment(), stdin=reader, stderr=err_writer, limits=_LIMITS)
    except BaseException as error:
        os.close(writer)
        os.close(err)
        if isinstance(error, FileNotFoundError):
            raise rootfs.missing_program("sqfstar", "squashfs-tools") from error
        raise
    finally:
        os.close(reader)
        os.close(err_writer)
    complaints = process.Tail(err, _STDERR_BYTES)

    def give_up() -> None:
        stop()
        sqfstar.signal(signal.SIGKILL)

    try:
        try:
            await in_thread(lambda: fill(TarWriter(writer, exact_times=False)), give_up)
        except BrokenPipeError:
            pass  # sqfstar has ended, and says why
        except BaseException:
            give_up()  # before the pipe is closed, which could pass for the end of the stream
            raise
        finally:
            os.close(writer)
        exit_code = await sqfstar.wait()
    finally:
        await asyncio.shield(sqfstar.stop(0))
        said = complaints.finish()
    if exit_code != 0:
        raise _failed(exit_code, said.decode(errors="replace"))


def _failed(exit_code: int, said: str) -> PyroError:
    lines = tuple(said.splitlines())
    if rootfs.says_no_space(lines) or exit_code == -signal.SIGXFSZ:
        return HostUnfit(
            "no_disk_space",
            "the disk filled up while the seed was copied",
            "free some space, or set PYRO_HOME to a folder on another disk",
        )
    return InternalError("seed_failed", f"sqfstar ended with code {exit_code}: {' '.join(lines[-2:])}")


def _settle(staged: Path, image: Path) -> None:
    """Give the image its name once all of it is on disk."""
    fd = os.open(staged, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fchmod(fd, 0o444)
        os.fsync(fd)
    finally:
        os.close(fd)
    staged.rename(image)
    folder = os.open(image.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
