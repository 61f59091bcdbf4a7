"""Headers of a tar stream, built by hand: a header of `tarfile` costs as much as copying 64 KiB.

GNU's format (long names in entries of their own, large numbers in base 256), because names are then plain bytes and
sqfstar 4.5 and GNU tar read it alike. Times in nanoseconds need one record of the pax format before the entry.
Source: https://www.gnu.org/software/tar/manual/html_node/Standard.html and pax(1) of POSIX.
"""

from dataclasses import dataclass, replace

BLOCK = 512
FILE, HARD_LINK, SYMLINK, FOLDER = b"0", b"1", b"2", b"5"
_LONG_NAME, _LONG_TARGET, _PAX = b"L", b"K", b"x"
_NAME_BYTES = 100
_LAST_SECOND = (1 << 32) - 1
END = bytes(2 * BLOCK)


@dataclass(frozen=True, slots=True)
class Attributes:
    """What stands in a header beside name and size; `mtime_ns` in nanoseconds since 1970."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int


def header(kind: bytes, name: bytes, size: int, about: Attributes, target: bytes = b"", *, exact_time: bool) -> bytes:
    """The blocks that come before an entry's content; `exact_time` keeps all of the time.

    Without it times are whole seconds of the 32 bits that squashfs has for them.
    """
    blocks = b""
    if not exact_time:
        about = replace(about, mtime_ns=min(max(about.mtime_ns, 0), _LAST_SECOND * 1_000_000_000))
    seconds, nanoseconds = divmod(about.mtime_ns, 1_000_000_000)
    if exact_time and (nanoseconds or seconds < 0):
        record = _pax_record(b"mtime", _decimal(about.mtime_ns))
        blocks += _block(_PAX, b"pax", len(record), _PLAIN, b"") + padded(record)
    if len(target) > _NAME_BYTES:
        blocks += _block(_LONG_TARGET, b"././@LongLink", len(target) + 1, _PLAIN, b"") + padded(target + b"\0")
    if len(name) > _NAME_BYTES:
        blocks += _block(_LONG_NAME, b"././@LongLink", len(name) + 1, _PLAIN, b"") + padded(name + b"\0")
    return blocks + _block(kind, name[:_NAME_BYTES], size, about, target[:_NAME_BYTES])


def padding(size: int) -> int:
    """How many zero bytes follow a content of `size` bytes."""
    return -size % BLOCK


def padded(content: bytes) -> bytes:
    """A content, filled up to whole blocks."""
    return content + bytes(padding(len(content)))


_PLAIN = Attributes(0o644, 0, 0, 0)


def _block(kind: bytes, name: bytes, size: int, about: Attributes, target: bytes) -> bytes:
    seconds = max(0, about.mtime_ns // 1_000_000_000)
    fields = b"".join(
        (
            name.ljust(100, b"\0"),
            b"%07o\0" % (about.mode & 0o7777),
            _number(about.uid, 8),
            _number(about.gid, 8),
            _number(size, 12),
            _number(seconds, 12),
            b"        ",
            kind,
            target.ljust(100, b"\0"),
            b"ustar  \0",
        )
    )
    checksum = b"%06o\0 " % sum(fields)
    return (fields[:148] + checksum + fields[156:]).ljust(BLOCK, b"\0")


def _number(value: int, width: int) -> bytes:
    """Octal where it fits, else base 256 with the first bit set, as GNU tar does."""
    digits = b"%0*o" % (width - 1, value)
    return digits + b"\0" if len(digits) < width else b"\x80" + value.to_bytes(width - 1, "big")


def _decimal(nanoseconds: int) -> bytes:
    whole, rest = divmod(abs(nanoseconds), 1_000_000_000)
    return b"%s%d.%09d" % (b"-" if nanoseconds < 0 else b"", whole, rest)


def _pax_record(key: bytes, value: bytes) -> bytes:
    """`LENGTH KEY=VALUE`, where the length counts its own digits, too."""
    rest = b" %s=%s\n" % (key, value)
    length = len(rest)
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return b"%d%s" % (length, rest)
