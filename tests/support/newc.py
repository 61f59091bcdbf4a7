"""Swapping one file in an uncompressed cpio archive of the kernel's "newc" kind."""

from collections.abc import Iterator

_HEADER = 110
_SIZE = slice(54, 62)
_NAME_SIZE = slice(94, 102)


def replace_member(archive: bytes, name: str, data: bytes) -> bytes:
    """The same archive with other content in one of its files."""
    out = bytearray()
    for header, member, content in _members(archive):
        body = data if member == name else content
        fresh = bytearray(header)
        fresh[_SIZE] = f"{len(body):08X}".encode()
        out += _padded(bytes(fresh) + member.encode() + b"\0")
        out += _padded(body)
    return bytes(out)


def _members(archive: bytes) -> Iterator[tuple[bytes, str, bytes]]:
    at, name = 0, ""
    while name != "TRAILER!!!":
        header = archive[at : at + _HEADER]
        size, name_size = int(header[_SIZE], 16), int(header[_NAME_SIZE], 16)
        name = archive[at + _HEADER : at + _HEADER + name_size - 1].decode()
        start = _aligned(at + _HEADER + name_size)
        yield header, name, archive[start : start + size]
        at = _aligned(start + size)


def _aligned(offset: int) -> int:
    return (offset + 3) & ~3


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (_aligned(len(data)) - len(data))
