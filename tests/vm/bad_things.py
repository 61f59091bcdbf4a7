"""A folder of the host with things that no workspace should be made of, and the ordinary project that it is made of."""

import gzip
import os
import socket
import tarfile
from pathlib import Path

from tests.support.trees import archive

_LARGE_BYTES = 8 << 20  # for a disk of less
_HUGE_BYTES = 9 << 30  # for anything


def make_folder(folder: Path, outside: Path) -> Path:
    """Make it; `outside` is a folder that it must not be possible to reach from there."""
    project = folder / "project"
    project.mkdir(parents=True)
    (project / "text").write_text("one\ntwo\n")
    (folder / "plain").write_text("no archive\n")
    (folder / "there").write_text("mine\n")
    (folder / "binary").write_bytes(b"\xff\x00")
    outside.mkdir()
    (outside / "secret").write_text("secret\n")
    (folder / "way-out").symlink_to(outside)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
    _make_archives(folder)
    return folder


def _make_archives(folder: Path) -> None:
    archive(folder / "absolute.tar", ("/absolute", "REGTYPE", b"x"))
    archive(folder / "above.tar", ("../above", "REGTYPE", b"x"))
    archive(folder / "roundabout.tar", ("a/../../above", "REGTYPE", b"x"))
    archive(folder / "link-out.tar", ("link", "SYMTYPE", "/etc"), ("link/passwd", "REGTYPE", b"x"))
    archive(folder / "below-link.tar", ("link", "SYMTYPE", "to"), ("link/passwd", "REGTYPE", b"x"))
    archive(folder / "hard-link-out.tar", ("hard", "LNKTYPE", "../../etc/passwd"))
    archive(folder / "twice.tar", ("twice", "REGTYPE", b"x"), ("twice", "REGTYPE", b"y"))
    archive(folder / "device.tar", ("device", "CHRTYPE", ""))
    archive(folder / "pipe.tar", ("pipe", "FIFOTYPE", ""))
    archive(folder / "large.tar", ("large", "REGTYPE", os.urandom(_LARGE_BYTES)))
    archive(folder / "sparse.tar", ("sparse", "GNUTYPE_SPARSE", b"x"))
    whole = archive(folder / "whole.tgz", ("file", "REGTYPE", bytes(range(256)) * 64), mode="w:gz").read_bytes()
    (folder / "whole.tgz").unlink()
    (folder / "cut.tgz").write_bytes(whole[: len(whole) // 2])
    (folder / "damaged.tgz").write_bytes(whole[:-8] + bytes(8))  # where the checksum stands
    (folder / "cut.tar").write_bytes(gzip.decompress(whole)[:1024])
    (folder / "rubbish.tar").write_bytes(b"rubbish!" * 1024)
    with tarfile.open(folder / "huge.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        huge = tarfile.TarInfo("huge")
        huge.size = _HUGE_BYTES  # says its header alone
        tar.addfile(huge)
