"""Small stand-ins for what a real build downloads: ELF files, a bzImage, a prepared kernel."""

import json
import struct
import subprocess
from pathlib import Path

PT_INTERP = 3
PT_NOTE = 4
PVH = b"Xen\0", 18
_HEADER_BYTES = 64
_PROGRAM_HEADER_BYTES = 56


def note(name: bytes, kind: int, description: bytes = b"\0\0\0\1") -> bytes:
    padding = bytes(-len(name) % 4)
    return struct.pack("<III", len(name), len(description), kind) + name + padding + description


def elf(*segments: tuple[int, bytes], machine: int = 62, bits: int = 2) -> bytes:
    """An ELF file with these (type, content) segments and nothing else."""
    table = b""
    content = b""
    content_at = _HEADER_BYTES + _PROGRAM_HEADER_BYTES * len(segments)
    for kind, data in segments:
        at = content_at + len(content)
        table += struct.pack("<IIQQQQQQ", kind, 4, at, 0, 0, len(data), len(data), 4)
        content += data
    head = struct.pack(
        "<4sBBB9xHHIQQQIHHHHHH",
        b"\x7fELF", bits, 1, 1, 2, machine, 1, 0, _HEADER_BYTES, 0, 0,
        _HEADER_BYTES, _PROGRAM_HEADER_BYTES, len(segments), 0, 0, 0,
    )  # fmt: skip
    return head + table + content


def pvh_kernel(filling: bytes = b"") -> bytes:
    return elf((PT_NOTE, note(b"Xen\0", 5) + note(*PVH))) + filling


def static_program(filling: bytes = b"") -> bytes:
    return elf((1, b"code")) + filling


def speaker(path: Path, words: str) -> Path:
    """A static program that prints `words`; compiled, because a script is no static program."""
    source = f'#include <stdio.h>\nint main(void) {{ puts("{words}"); }}\n'
    subprocess.run(["gcc", "-static", "-x", "c", "-", "-o", str(path)], input=source.encode(), check=True)
    return path


LINE = "6.1.0-9-fake (me@here) #1 SMP Debian 6.1.9-1 (2026)"


def lz4_legacy(data: bytes) -> bytes:
    """Compressed as the kernel's build does it, with the program that it uses."""
    return subprocess.run(["lz4", "-l", "-c", "-q"], input=data, capture_output=True, check=True).stdout


def bzimage(payload: bytes, unpacked_size: int, *, line: str = LINE) -> bytes:
    """A bzImage with `payload` as its compressed kernel, laid out by the kernel's boot protocol."""
    setup_sectors = 3
    setup = bytearray((setup_sectors + 1) * 512)
    setup[0x1F1] = setup_sectors
    setup[0x202:0x206] = b"HdrS"
    line_at = 0x300
    setup[line_at : line_at + len(line)] = line.encode()
    struct.pack_into("<H", setup, 0x20E, line_at - 0x200)
    before = b"unpacker"
    whole = payload + struct.pack("<I", unpacked_size)
    struct.pack_into("<II", setup, 0x248, len(before), len(whole))
    return bytes(setup) + before + whole + b"after"


def prepared_kernel(folder: Path) -> Path:
    """A folder as `kernel_package.prepare` leaves it."""
    (folder / "boot").mkdir(parents=True)
    (folder / "licences").mkdir()
    (folder / "vmlinux").write_bytes(pvh_kernel())
    (folder / "modules.sqfs").write_bytes(b"all modules")
    (folder / "boot" / "order").write_text("first.ko\nsecond.ko\n")
    (folder / "boot" / "first.ko").write_bytes(b"module one")
    (folder / "boot" / "second.ko").write_bytes(b"module two")
    (folder / "copyright").write_text("Copyright: the kernel's authors\n")
    (folder / "licences" / "GPL-2").write_text("the text of GPL-2\n")
    (folder / "kernel.json").write_text(json.dumps({"release": "6.1.0-9-fake", "version": "6.1.9-1", "digest": "1"}))
    return folder
