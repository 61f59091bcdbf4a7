"""How much one transfer may carry, and the count that is kept against it."""

from collections.abc import Callable
from dataclasses import dataclass

from pyro_mcp.errors import InvalidRequest, PyroError

MAX_BYTES = 8 << 30  # of files' contents
MAX_ENTRIES = 1_000_000
MAX_DEPTH = 256  # folders below each other; each is an open descriptor while it is walked
MAX_PATH_BYTES = 4096  # PATH_MAX of Linux
MAX_NAME_BYTES = 255  # NAME_MAX of Linux
MAX_KEPT_BYTES = 64 << 20  # of names that a transfer remembers to its end
CHUNK_BYTES = 256 * 1024


def too_large(what: str) -> InvalidRequest:
    """The error for a tree or an archive over the limits; `what` says which."""
    return InvalidRequest("seed_too_large", f"the source holds {what}", "give a smaller folder or archive")


class Stopped(Exception):
    """Nobody wants the transfer any more."""


@dataclass
class Tally:
    """What one transfer has moved so far; written by its thread alone, read by whoever reports.

    `files` counts everything that is not a folder; `skipped` what has no place in a workspace (sockets, devices),
    `changed` files that were cut or padded because they changed while they were read. `bytes` are those of contents;
    `taken`, which `max_bytes` limits, is the room for them: with `block_bytes` each entry takes whole blocks, at least
    one. `kept` are the bytes of names that are remembered. What is over a limit is refused with `refusal`, and with
    `too_many` where it is not the contents, but the number of entries or what their names take.
    """

    max_bytes: int = MAX_BYTES
    max_entries: int = MAX_ENTRIES
    block_bytes: int = 0
    files: int = 0
    bytes: int = 0
    taken: int = 0
    entries: int = 0
    kept: int = 0
    skipped: int = 0
    changed: int = 0
    stopped: bool = False
    refusal: Callable[[str], PyroError] = too_large
    too_many: Callable[[str], PyroError] = too_large

    def add(self, size: int = 0, *, folder: bool = False) -> None:
        """Count one entry. Raises what `refusal` or `too_many` make of one too many, `Stopped` after `stop`."""
        self.pass_over()
        self.files += not folder
        self.bytes += size
        self.taken += self._room_for(size)
        if self.taken > self.max_bytes:
            raise self.refusal(f"more than {self.max_bytes >> 20} MiB")

    def pass_over(self) -> None:
        """Count one entry of which nothing is made. Raises as `add` does."""
        if self.stopped:
            raise Stopped
        self.entries += 1
        if self.entries > self.max_entries:
            raise self.too_many(f"more than {self.max_entries:,} files and folders")

    def keep(self, size: int) -> None:
        """Count a name of `size` bytes that is remembered. Raises what `too_many` makes when it is one too many."""
        self.kept += size
        if self.kept > MAX_KEPT_BYTES:
            raise self.too_many(f"more than {MAX_KEPT_BYTES >> 20} MiB of names")

    def _room_for(self, size: int) -> int:
        return max(1, -(-size // self.block_bytes)) * self.block_bytes if self.block_bytes else size

    def stop(self) -> None:
        """Make the transfer's thread end at its next entry."""
        self.stopped = True


def shown(name: str | bytes) -> str:
    """A file name for a message: printable, and no longer than a line."""
    text = name if isinstance(name, str) else name.decode(errors="surrogateescape")
    printable = text.encode(errors="surrogateescape").decode(errors="backslashreplace")
    printable = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in printable)
    return printable if len(printable) <= 120 else f"{printable[:60]}...{printable[-57:]}"
