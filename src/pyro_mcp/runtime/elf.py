"""The little of the ELF format that a bundle's builder must look at; see elf(5)."""

import struct
from collections.abc import Iterator

_HEADER = struct.Struct("<4sBB10xHHIQQQIHHH")  # up to and with e_phnum
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_NOTE = struct.Struct("<III")
_X86_64 = 62
_PT_INTERP = 3
_PT_NOTE = 4
# Where a VMM enters the kernel under the PVH protocol: Xen's elfnote.h, XEN_ELFNOTE_PHYS32_ENTRY.
_PVH_NOTE = (b"Xen\0", 18)


def is_pvh_kernel(image: bytes) -> bool:
    """Whether this is an x86-64 ELF file with an entry point for PVH boot."""
    return any(_PVH_NOTE in _notes(segment) for segment in _segments(image, _PT_NOTE))


def is_static_program(image: bytes) -> bool:
    """Whether this is an x86-64 ELF program that runs without a dynamic loader."""
    return _is_x86_64(image) and not list(_segments(image, _PT_INTERP))


def _is_x86_64(image: bytes) -> bool:
    if len(image) < _HEADER.size:
        return False
    magic, bits, byte_order, _, machine, *_ = _HEADER.unpack_from(image)
    return bool(magic == b"\x7fELF" and bits == 2 and byte_order == 1 and machine == _X86_64)


def _segments(image: bytes, wanted: int) -> Iterator[bytes]:
    """The content of every segment of the wanted type; a file cut short ends the list."""
    if not _is_x86_64(image):
        return
    *_, table, _, _, _, entry_size, count = _HEADER.unpack_from(image)
    for index in range(count):
        at = table + index * entry_size
        if at + _PROGRAM_HEADER.size > len(image):
            return
        kind, _, offset, _, _, size, _, _ = _PROGRAM_HEADER.unpack_from(image, at)
        if kind == wanted:
            yield image[offset : offset + size]


def _notes(data: bytes) -> Iterator[tuple[bytes, int]]:
    """The (name, type) pairs of a note segment; names and descriptions are padded to four bytes."""
    at = 0
    while at + _NOTE.size <= len(data):
        name_size, description_size, kind = _NOTE.unpack_from(data, at)
        at += _NOTE.size
        yield data[at : at + name_size], kind
        at += _padded(name_size) + _padded(description_size)


def _padded(size: int) -> int:
    return (size + 3) & ~3
