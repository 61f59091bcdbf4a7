"""Our tar streams, read by other programs and by ourselves; streams of others, read by us."""

import contextlib
import io
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_mcp.transfer import tar_headers
from pyro_mcp.transfer.tar_headers import Attributes
from pyro_mcp.transfer.tar_reader import BadTar, Member, TarReader
from pyro_mcp.transfer.tar_writer import TarWriter
from pyro_mcp.transfer.tree_tar import Owners
from tests.support.trees import Sketch, draw_tree, sample_tree, seen, sketches, tar_bytes, tar_of


def read(data: bytes) -> list[tuple[Member, bytes]]:
    reader = TarReader(io.BytesIO(data))
    return [(member, b"".join(reader.content())) for member in reader.members()]


def test_gnu_tar_unpacks_what_was_written(tmp_path: Path) -> None:
    tree = sample_tree(tmp_path / "tree")
    tally = tar_of(tree, tmp_path / "archive")
    (tmp_path / "copy").mkdir()
    subprocess.run(["tar", "-xpf", tmp_path / "archive", "-C", tmp_path / "copy"], check=True)
    assert seen(tmp_path / "copy") == seen(tree)
    files = [path for path in tree.rglob("*") if path.is_symlink() or not path.is_dir()]
    assert tally.files == len(files)
    assert tally.bytes == sum(path.lstat().st_size for path in files if not path.is_symlink())


@settings(max_examples=40, deadline=None)
@given(sketches)
def test_any_tree_comes_back_from_its_stream(sketch: Sketch) -> None:
    with tempfile.TemporaryDirectory() as folder:
        draw_tree(Path(folder, "tree"), sketch)
        tar_of(Path(folder, "tree"), Path(folder, "archive"))
        members = read(Path(folder, "archive").read_bytes())
        found = seen(Path(folder, "tree"))
    assert {os.fsdecode(member.name).rstrip("/") for member, _ in members} == set(found)
    for member, content in members:
        kind, mode, mtime, rest = found[os.fsdecode(member.name).rstrip("/")]
        assert (member.kind, member.mode, member.mtime_ns) == (kind, mode, mtime)
        assert (os.fsdecode(member.target) if kind == "symlink" else content) == rest


@given(
    st.binary(min_size=1, max_size=300).filter(lambda name: not set(name) & {0, 47}),
    st.integers(0, 1 << 40),
    st.integers(0, (1 << 32) - 2),
    st.integers(-(1 << 62), 1 << 62),
)
def test_a_header_says_what_was_given(name: bytes, size: int, uid: int, mtime_ns: int) -> None:
    about = Attributes(0o4751, uid, uid, mtime_ns)
    blocks = tar_headers.header(tar_headers.FILE, name, size, about, exact_time=True)
    member = next(TarReader(io.BytesIO(blocks)).members())
    assert member == Member(name, member.kind, size if member.kind == "file" else 0, 0o4751, uid, uid, mtime_ns)
    with tarfile.open(fileobj=io.BytesIO(blocks + tar_headers.END)) as tar:
        first = tar.next()
        assert first is not None
        assert (os.fsencode(first.name), first.uid) == (name.rstrip(b"/"), uid)


def test_times_that_squashfs_cannot_hold_are_cut() -> None:
    for given_ns, wanted in ((-5, 0), (1 << 70, (1 << 32) - 1), (1_999_999_999, 1)):
        blocks = tar_headers.header(tar_headers.FILE, b"f", 0, Attributes(0, 0, 0, given_ns), exact_time=False)
        assert len(blocks) == 512
        assert next(TarReader(io.BytesIO(blocks)).members()).mtime_ns == wanted * 1_000_000_000


def test_files_of_the_caller_become_roots_and_others_keep_their_owner(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/f").touch()
    mine = (tmp_path / "tree/f").stat()
    owned = Owners(frozenset({mine.st_uid}), frozenset({mine.st_gid}))
    for owners, wanted in ((owned, 0), (Owners(frozenset(), frozenset()), mine.st_uid)):
        tar_of(tmp_path / "tree", tmp_path / "archive", owners=owners)
        ((member, _),) = read((tmp_path / "archive").read_bytes())
        assert (member.uid, member.gid) == (wanted, 0 if wanted == 0 else mine.st_gid)


def test_files_of_whoever_owns_the_folder_become_roots(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "f").touch()
    if os.geteuid() == 0:  # others cannot give files away; theirs are their own and the folder's owner's at once
        os.chown(tree / "f", 1234, 1234)
        os.chown(tree, 1234, 1234)
    tar_of(tree, tmp_path / "archive")
    ((member, _),) = read((tmp_path / "archive").read_bytes())
    assert (member.uid, member.gid) == (0, 0)


def test_content_is_padded_and_cut_to_the_size_announced(tmp_path: Path) -> None:
    with (tmp_path / "archive").open("wb") as file:
        writer = TarWriter(file.fileno(), exact_times=False)
        about = Attributes(0o644, 0, 0, 0)
        assert writer.file(b"short", 600_000, [b"ab"], about) == 2
        assert writer.file(b"long", 3, [b"abc", b"def"], about) == 3
        assert writer.file(b"right", 1, [b"r"], about) == 1
        writer.finish()
    contents = {member.name: content for member, content in read((tmp_path / "archive").read_bytes())}
    assert contents == {b"short": b"ab".ljust(600_000, b"\0"), b"long": b"abc", b"right": b"r"}


@pytest.mark.parametrize("style", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archives_of_every_style_are_read(tmp_path: Path, style: int) -> None:
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/f").write_bytes(b"x" * 1000)
    (tmp_path / "tree/sub/l").symlink_to("f")
    (tmp_path / "tree/sub/h").hardlink_to(tmp_path / "tree/sub/f")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=style) as tar:
        tar.add(tmp_path / "tree", "d" * 40 + "/" + "e" * 40)
    found = {member.name.split(b"/")[-1]: (member.kind, content) for member, content in read(buffer.getvalue())}
    assert found[b"l"] == ("symlink", b"")
    assert {found[b"f"], found[b"h"]} == {("file", b"x" * 1000), ("hardlink", b"")}


def test_what_git_archive_and_old_tars_write_is_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")
    old = subprocess.run(["tar", "--format=v7", "-cf", "-", "f"], cwd=tmp_path, check=True, capture_output=True).stdout
    assert [(member.name, content) for member, content in read(old)] == [(b"f", b"old")]
    comment = tarfile.TarInfo.create_pax_global_header({"comment": "0123abcd"})
    assert [member.name for member, _ in read(comment + tar_bytes(("f", "REGTYPE", b"")))] == [b"f"]


def pax(records: bytes, name: bytes = b"f") -> bytes:
    about = Attributes(0o644, 0, 0, 0)
    extended = tar_headers.header(b"x", b"pax", len(records), about, exact_time=False) + tar_headers.padded(records)
    return extended + tar_headers.header(tar_headers.FILE, name, 0, about, exact_time=False) + tar_headers.END


def sized(kind: bytes, size: int) -> bytes:
    return tar_headers.header(kind, b"x", size, Attributes(0, 0, 0, 0), exact_time=False)


GOOD = tar_bytes(("f", "REGTYPE", b"x" * 700))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "ends in the middle"),
        (b"PK\x03\x04" + bytes(600), "checksum"),
        (GOOD[:512], "ends in the middle"),
        (GOOD[:1536], "ends in the middle"),
        (GOOD[:100] + b"1" + GOOD[101:], "checksum"),
        (sized(b"x", 1 << 40), "extended header of"),
        (sized(b"L", 1 << 20), "extended header of"),
        (sized(b"S", 0), "sparse"),
        (sized(b"M", 0), "unknown kind"),
        (sized(b"0", 1 << 63), "too large"),
        (pax(b"6 a=b\n")[:1024] + bytes(1024), "ends after"),
        (pax(b"")[:512] * 20, "in a row"),
        (pax(b"rubbish\n"), "broken"),
        (pax(b"99 path=x\n"), "broken"),
        (pax(b"0 path=x\n"), "broken"),
        (pax(b"12 path=a\0b\n"), "zero byte"),
        (pax(b"22 GNU.sparse.major=1\n"), "sparse"),
        (pax(b"13 size=-100\n"), "number"),
        (pax(b"35 size=" + b"9" * 26 + b"\n"), "number"),
        (pax(b"12 mtime=x1\n"), "number"),
        (pax(b"14 mtime=1.x1\n"), "time"),
    ],
)
def test_broken_streams_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(BadTar, match=why):
        read(data)


def test_a_global_header_may_not_rename_everything() -> None:
    with pytest.raises(BadTar, match="for all entries"):
        read(tarfile.TarInfo.create_pax_global_header({"path": "x"}) + GOOD)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_damage_gives_anything_but_a_refusal(data: st.DataObject) -> None:
    stream = bytearray(pax(b"9 path=x\n") + GOOD)
    for _ in range(data.draw(st.integers(1, 6))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(stream)))
    with contextlib.suppress(BadTar):
        read(bytes(stream[:cut]))
