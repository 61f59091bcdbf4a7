"""Opens archives, compressed or not, as one bounded stream."""

import gzip
import importlib
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from pyro_mcp.transfer.limits import MAX_BYTES, too_large
from pyro_mcp.transfer.tar_reader import BadTar

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.zst")
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
# Headers and padding come on top of the contents.
_MAX_STREAM_BYTES = MAX_BYTES + (2 << 30)
_DRAIN_BYTES = 256 * 1024


@contextmanager
def unpacked(fd: int) -> Iterator["Unpacked"]:
    """The bytes of the archive that a descriptor (which stays open) leads to, decompressed as its first bytes say."""
    with io.BufferedReader(cast("io.RawIOBase", io.FileIO(fd, closefd=False)), _DRAIN_BYTES) as plain:
        start = plain.peek(4)[:4]
        if start.startswith(_GZIP):
            with gzip.GzipFile(fileobj=plain, mode="rb") as stream:
                yield Unpacked(cast("BinaryIO", stream), _MAX_STREAM_BYTES)
        elif start == _ZSTD:
            zstd = _zstd()
            with zstd.ZstdFile(plain) as stream:
                yield Unpacked(stream, _MAX_STREAM_BYTES, zstd.ZstdError)
        else:
            yield Unpacked(cast("BinaryIO", plain), _MAX_STREAM_BYTES)


class Unpacked:
    """A stream that ends with an error rather than going on for ever: a few kilobytes may decompress to terabytes."""

    def __init__(self, stream: BinaryIO, max_bytes: int, *broken: type[Exception]) -> None:
        self._stream = stream
        self._left = max_bytes
        self._broken: tuple[type[Exception], ...] = (OSError, zlib.error, EOFError, *broken)

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end. Raises `BadTar` for what cannot be read."""
        try:
            data = self._stream.read(size)
        except self._broken as error:
            raise BadTar(f"it cannot be read: {error}") from error
        self._left -= len(data)
        if self._left < 0:
            raise too_large(f"more than {_MAX_STREAM_BYTES >> 20} MiB")
        return data

    def drain(self) -> None:
        """Read to the end, which is where compressed streams keep their checksums."""
        while self.read(_DRAIN_BYTES):
            pass


def _zstd() -> Any:
    """The module for zstd: the standard library's from Python 3.14 on, before that its backport."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise BadTar("this Python cannot read zstd")
