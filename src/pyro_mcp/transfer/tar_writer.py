"""Writes a tar stream of entries into a descriptor, in large pieces."""

import os
from collections.abc import Iterable

from pyro_mcp.transfer import tar_headers
from pyro_mcp.transfer.limits import CHUNK_BYTES
from pyro_mcp.transfer.tar_headers import Attributes

_PIECES = 512  # that one system call takes; Linux has room for 1,024


class TarWriter:
    """A tar stream into a pipe; blocks while nobody reads it.

    Names are relative and written as they are. Raises `BrokenPipeError` when the reader has gone.
    """

    def __init__(self, fd: int, *, exact_times: bool) -> None:
        self._fd = fd
        self._exact = exact_times
        self._waiting: list[bytes] = []
        self._size = 0

    def folder(self, name: bytes, about: Attributes) -> None:
        """An entry for a folder."""
        self._put(tar_headers.header(tar_headers.FOLDER, name + b"/", 0, about, exact_time=self._exact))

    def symlink(self, name: bytes, target: bytes, about: Attributes) -> None:
        """An entry for a symbolic link."""
        self._put(tar_headers.header(tar_headers.SYMLINK, name, 0, about, target, exact_time=self._exact))

    def hard_link(self, name: bytes, target: bytes, about: Attributes) -> None:
        """Another name of a file that was written before as `target`."""
        self._put(tar_headers.header(tar_headers.HARD_LINK, name, 0, about, target, exact_time=self._exact))

    def file(self, name: bytes, size: int, chunks: Iterable[bytes], about: Attributes) -> int:
        """A file of exactly `size` bytes: what `chunks` has too much is dropped, what it lacks is zeros.

        Returns how many bytes of it came from `chunks`.
        """
        self._put(tar_headers.header(tar_headers.FILE, name, size, about, exact_time=self._exact))
        left = size
        if size:
            for chunk in chunks:
                piece = chunk if len(chunk) <= left else chunk[:left]
                self._put(piece)
                left -= len(piece)
                if not left:
                    break
        self._zeros(left + tar_headers.padding(size))
        return size - left

    def finish(self) -> None:
        """Write the end of the archive; without it readers take the stream for a broken one."""
        self._put(tar_headers.END)
        self._flush()

    def _zeros(self, count: int) -> None:
        while count > 0:
            piece = min(count, CHUNK_BYTES)
            self._put(bytes(piece))
            count -= piece

    def _put(self, data: bytes) -> None:
        self._waiting.append(data)
        self._size += len(data)
        if self._size >= CHUNK_BYTES or len(self._waiting) == _PIECES:
            self._flush()

    def _flush(self) -> None:
        sent = os.writev(self._fd, self._waiting)
        if sent < self._size:
            with memoryview(b"".join(self._waiting)) as whole:
                while sent < self._size:
                    sent += os.write(self._fd, whole[sent:])
        self._waiting.clear()
        self._size = 0
