import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from pyro_mcp.runtime import cpio

MEMBERS = [
    cpio.file("z", b"last"),
    cpio.folder("dev"),
    cpio.character_device("dev/console", 5, 1),
    cpio.file("init", b"\x7fELF and more", executable=True),
    cpio.file("dev-notes", b""),
]


def test_equal_members_in_any_order_give_equal_bytes() -> None:
    assert cpio.archive(MEMBERS) == cpio.archive(reversed(MEMBERS))


def test_the_format_is_newc_to_the_byte() -> None:
    archive = cpio.archive([cpio.file("a", b"12345")])
    header = b"070701" b"00000001" b"000081A4" + b"00000000" * 2 + b"00000001" b"00000000" b"00000005"
    header += b"00000000" * 4 + b"00000002" + b"00000000"
    assert archive.startswith(header + b"a\0" + b"12345\0\0\0" + b"070701" + b"00000000")
    assert archive.rstrip(b"\0").endswith(b"TRAILER!!!")
    assert len(archive) % 512 == 0


def test_a_folder_comes_before_what_is_in_it() -> None:
    # By plain order of characters "dev-notes" would come between "dev" and "dev/console".
    archive = cpio.archive(MEMBERS)
    places = [archive.index(name + b"\0") for name in (b"dev", b"dev/console", b"dev-notes", b"init", b"z")]
    assert places == sorted(places)


def test_a_real_unpacker_finds_the_same(tmp_path: Path) -> None:
    unpacker = shutil.which("cpio") or shutil.which("bsdtar")
    if unpacker is None:
        pytest.fail("neither cpio nor bsdtar is installed")
    members = [member for member in MEMBERS if not stat.S_ISCHR(member.mode)]
    archive = tmp_path / "archive.cpio"
    archive.write_bytes(cpio.archive(members))
    out = tmp_path / "out"
    out.mkdir()
    command = [unpacker, "-id", "--quiet"] if unpacker.endswith("/cpio") else [unpacker, "-xf", "-"]
    with archive.open("rb") as stream:
        subprocess.run(command, stdin=stream, cwd=out, check=True)
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*")) == ["dev", "dev-notes", "init", "z"]
    assert (out / "init").read_bytes() == b"\x7fELF and more"
    assert stat.S_IMODE((out / "init").stat().st_mode) == 0o755
    assert (out / "z").stat().st_mtime == 0
