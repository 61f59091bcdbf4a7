"""Reads tar streams that nobody vouches for: an entry at a time, in bounded memory, and strict about what it accepts.

`tarfile` reads whole extended headers into memory however long they say they are, keeps every entry, and recurses over
chains of them. This reads what today's programs write: ustar, GNU's long names and large numbers, and pax records.
Source: https://www.gnu.org/software/tar/manual/html_node/Standard.html and pax(1) of POSIX.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from pyro_mcp.transfer.limits import CHUNK_BYTES, MAX_PATH_BYTES, shown

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_MAX_LONG_NAME = 64 * 1024
_MAX_PAX = 1 << 20
_MAX_EXTENSIONS = 16  # in a row, before one entry
_MAX_SIZE = 1 << 62
_MAX_ID = (1 << 32) - 2  # -1 has a meaning of its own for chown
_MAX_DIGITS = 24
_KINDS = {
    **dict.fromkeys(("\0", "0", "7"), "file"),
    "1": "hardlink",
    "2": "symlink",
    "3": "device",
    "4": "device",
    "5": "directory",
    "6": "fifo",
}


class BadTar(Exception):
    """The stream is no tar archive, a broken one, or one of a kind that is refused; the text says which."""


class Source(Protocol):
    """Where the bytes come from."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class Member:
    """An entry: its name and link target as bytes, as they stand in the archive; `mtime_ns` in nanoseconds since 1970.

    `kind` is file, directory, symlink, hardlink, device or fifo; `size` is that of the content which follows. Only
    links have a `target`, of at most 4096 bytes.
    """

    name: bytes
    kind: str
    size: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    target: bytes = b""


class TarReader:
    """Iterates over the entries of a stream; `content` gives that of the entry at hand."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._left = 0  # content of the present entry that was not read yet
        self._padding = 0

    def members(self) -> Iterator[Member]:
        """The entries, one after the other, to the end of the archive. Raises `BadTar`."""
        while True:
            for _ in self.content():
                pass
            member = self._next()
            if member is None:
                return
            self._left, self._padding = member.size, -member.size % _BLOCK
            yield member

    def content(self) -> Iterator[bytes]:
        """The present entry's content, as far as it was not read yet. Raises `BadTar` when the stream ends in it."""
        while self._left:
            chunk = self._source.read(min(self._left, CHUNK_BYTES))
            if not chunk:
                raise _truncated()
            self._left -= len(chunk)
            yield chunk
        self._exactly(self._padding)
        self._padding = 0

    def _next(self) -> Member | None:
        extensions = _Extensions()
        for _ in range(_MAX_EXTENSIONS):
            block = self._exactly(_BLOCK)
            if block == _ZEROS:
                if extensions.any:
                    raise BadTar("it ends after an extended header")
                return None
            kind, member = _parsed(block)
            match kind:
                case "L" | "K":
                    extensions.long(kind, self._extension(member.size, _MAX_LONG_NAME))
                case "x" | "X":
                    extensions.pax(self._extension(member.size, _MAX_PAX))
                case "g":
                    _check_global(self._extension(member.size, _MAX_PAX))
                case "S":
                    raise BadTar(f"{shown(member.name)} is a sparse file")
                case _:
                    return extensions.applied(_of_kind(member, kind))
        raise BadTar("too many extended headers in a row")

    def _extension(self, size: int, limit: int) -> bytes:
        if size > limit:
            raise BadTar(f"an extended header of {size} bytes")
        content = self._exactly(size)
        self._exactly(-size % _BLOCK)
        return content

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._source.read(size - len(data))
            if not more:
                raise _truncated()
            data += more
        return data


def _truncated() -> BadTar:
    return BadTar("it ends in the middle")


class _Extensions:
    """What extended headers say about the entry that follows them."""

    def __init__(self) -> None:
        self.any = False
        self._said: dict[bytes, bytes] = {}

    def long(self, kind: str, content: bytes) -> None:
        self.any = True
        self._said[b"path" if kind == "L" else b"linkpath"] = content.split(b"\0", 1)[0]

    def pax(self, content: bytes) -> None:
        self.any = True
        for key, value in _records(content):
            if key.startswith(b"GNU.sparse."):
                raise BadTar("it holds a sparse file")
            if value:
                self._said[key] = value
            else:  # an empty value takes back what was said before
                self._said.pop(key, None)

    def applied(self, member: Member) -> Member:
        said = self._said
        if b"\0" in said.get(b"path", b"") or b"\0" in said.get(b"linkpath", b""):
            raise BadTar("a name with a zero byte in it")
        target = said.get(b"linkpath", member.target) if member.kind in ("symlink", "hardlink") else b""
        if len(target) > MAX_PATH_BYTES:
            raise BadTar(f"a link to something of more than {MAX_PATH_BYTES} bytes")
        return replace(
            member,
            name=said.get(b"path", member.name),
            target=target,
            # Other kinds have no content, whatever they say.
            size=_whole(said[b"size"], _MAX_SIZE) if b"size" in said and member.kind == "file" else member.size,
            uid=_whole(said[b"uid"], _MAX_ID) if b"uid" in said else member.uid,
            gid=_whole(said[b"gid"], _MAX_ID) if b"gid" in said else member.gid,
            mtime_ns=_nanoseconds(said[b"mtime"]) if b"mtime" in said else member.mtime_ns,
        )


def _parsed(block: bytes) -> tuple[str, Member]:
    """The letter of a header's kind, and what it says."""
    if _octal(block[148:156], 1 << 30) not in _checksums(block):
        raise BadTar("a header's checksum is wrong")
    name, target = _text(block[0:100]), _text(block[157:257])
    if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
        name = prefix + b"/" + name
    member = Member(
        name=name,
        kind="",
        size=_number(block[124:136], _MAX_SIZE),
        mode=_octal(block[100:108], 1 << 30) & 0o7777,
        uid=_number(block[108:116], _MAX_ID),
        gid=_number(block[116:124], _MAX_ID),
        mtime_ns=_seconds(block[136:148]) * 1_000_000_000,
        target=target,
    )
    return chr(block[156]), member


def _of_kind(member: Member, letter: str) -> Member:
    kind = _KINDS.get(letter)
    if kind is None:
        raise BadTar(f"{shown(member.name)} is of the unknown kind {letter!r}")
    if kind == "file" and not member.size and member.name.endswith(b"/"):  # as archives of the 1980s say it
        kind = "directory"
    return replace(member, kind=kind, size=member.size if kind == "file" else 0)


def _checksums(block: bytes) -> tuple[int, int]:
    """The sum of a header's bytes with the checksum as blanks; some old programs summed them as signed numbers."""
    counted = block[:148] + b"        " + block[156:]
    unsigned = sum(counted)
    return unsigned, unsigned - 256 * sum(byte > 127 for byte in counted)


def _text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _number(field: bytes, limit: int) -> int:
    """A number in octal digits or in base 256."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=False) & ((1 << (8 * len(field) - 1)) - 1)
        return _limited(value, limit)
    return _octal(field, limit)


def _seconds(field: bytes) -> int:
    """A time; in base 256 it may be before 1970."""
    if field[0] == 0xFF:
        return max(int.from_bytes(field, "big", signed=True), -(1 << 40))
    return _number(field, 1 << 40)


def _octal(field: bytes, limit: int) -> int:
    digits = _text(field).strip()
    if digits.strip(b"01234567"):
        raise BadTar("a number in a header is none")
    return _limited(int(digits or b"0", 8), limit)


def _whole(value: bytes, limit: int) -> int:
    if not value.isdigit() or len(value) > _MAX_DIGITS:
        raise BadTar("a number in an extended header is none")
    return _limited(int(value), limit)


def _limited(value: int, limit: int) -> int:
    if value > limit:
        raise BadTar("a number in a header is too large")
    return value


def _nanoseconds(value: bytes) -> int:
    negative = value.startswith(b"-")
    whole, _, fraction = value.removeprefix(b"-").partition(b".")
    if fraction and not fraction.isdigit():
        raise BadTar("a time in an extended header is none")
    nanoseconds = _whole(whole, 1 << 40) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0"))
    return -nanoseconds if negative else nanoseconds


def _records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The records of a pax header: `LENGTH KEY=VALUE` and a line's end, each."""
    at = 0
    while at < len(content):
        blank = content.find(b" ", at, at + _MAX_DIGITS)
        if blank < 0:
            raise BadTar("an extended header is broken")
        end = at + _whole(content[at:blank], _MAX_PAX)
        record = content[blank + 1 : end]
        key, equals, value = record.partition(b"=")
        if end <= blank or end > len(content) or not equals or not value.endswith(b"\n"):
            raise BadTar("an extended header is broken")
        yield key, value[:-1]
        at = end


def _check_global(content: bytes) -> None:
    """Headers for all entries to come hold comments in practice; what would change names or sizes is refused."""
    for key, _ in _records(content):
        if key in (b"path", b"linkpath", b"size") or key.startswith(b"GNU.sparse."):
            raise BadTar(f"an extended header for all entries sets {shown(key)}")
