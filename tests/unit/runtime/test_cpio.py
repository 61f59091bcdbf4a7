import os
import shutil
import stat
import subprocess
from pathlib import Path

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
    header = b"07070100000001000081A4" + b"00000000" * 2 + b"000000010000000000000005"
    header += b"00000000" * 4 + b"00000002" + b"00000000"
    assert archive.startswith(header + b"a\0" + b"12345\0\0\0" + b"070701" + b"00000000")
    assert archive.rstrip(b"\0").endswith(b"TRAILER!!!")
    assert len(archive) % 512 == 0


def test_a_folder_comes_before_what_is_in_it() -> None:
    # By plain order of characters "dev-notes" would come between "dev" and "dev/console".
    archive = cpio.archive(MEMBERS)
    places = [archive.index(name + b"\0") for name in (b"dev", b"dev/console", b"dev-notes", b"init", b"z")]
    assert places == sorted(places)


def test_it_unpacks_to_what_went_in(tmp_path: Path) -> None:
    members = [member for member in MEMBERS if not stat.S_ISCHR(member.mode)]
    unpack(cpio.archive(members), tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["dev", "dev-notes", "init", "z"]
    assert (tmp_path / "init").read_bytes() == b"\x7fELF and more"
    assert stat.S_IMODE((tmp_path / "init").stat().st_mode) == 0o755
    assert (tmp_path / "z").stat().st_mtime == 0


def test_devices_are_what_they_were() -> None:
    assert [(member.path, member.device) for member in read(cpio.archive(MEMBERS)) if stat.S_ISCHR(member.mode)] == [
        ("dev/console", (5, 1))
    ]


def unpack(archive: bytes, folder: Path) -> None:
    """Unpack with another's program where there is one, so that not only we understand what we write."""
    program = shutil.which("cpio")
    if program is not None:
        subprocess.run([program, "-idm", "--quiet"], input=archive, cwd=folder, check=True)
        return
    for member in read(archive):
        path = folder / member.path
        if stat.S_ISDIR(member.mode):
            path.mkdir()
        else:
            path.write_bytes(member.data)
        path.chmod(stat.S_IMODE(member.mode))
        os.utime(path, (0, 0))


def read(archive: bytes) -> list[cpio.Member]:
    members: list[cpio.Member] = []
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * index :][:8], 16) for index in range(13)]
        _, mode, _, _, _, mtime, size, _, _, major, minor, name_size, _ = fields
        name = archive[at + 110 :][: name_size - 1].decode()
        data_at = at + (110 + name_size + 3) // 4 * 4
        if name == "TRAILER!!!":
            return members
        assert mtime == 0
        members.append(cpio.Member(name, mode, archive[data_at : data_at + size], (major, minor)))
        at = (data_at + size + 3) // 4 * 4
