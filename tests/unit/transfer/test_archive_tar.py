"""Archives of others: taken when every entry is right, refused as a whole when one is not."""

import gzip
import importlib
import os
import shutil
import subprocess
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.transfer import archive_tar, compression, limits
from pyro_mcp.transfer.limits import Tally
from pyro_mcp.transfer.standing import Standing
from pyro_mcp.transfer.tar_writer import TarWriter
from tests.support.trees import archive, sample_tree, seen, tar_bytes


def rewritten(path: Path, tally: Tally | None = None) -> list[tarfile.TarInfo]:
    """The entries of our stream made from an archive."""
    output = path.with_name("rewritten")
    fd = os.open(path, os.O_RDONLY)
    try:
        with output.open("wb") as file:
            writer = TarWriter(file.fileno(), exact_times=True)
            archive_tar.rewrite(fd, path.name, writer, tally or Tally())
    finally:
        os.close(fd)
    with tarfile.open(output) as tar:
        return tar.getmembers()


def refusal(path: Path) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        rewritten(path)
    return refused.value


@pytest.mark.parametrize("flag", ["--no-auto-compress", "--gzip", "--zstd"])
@pytest.mark.parametrize("style", ["gnu", "posix", "ustar"])
def test_what_gnu_tar_makes_is_taken_and_given_to_root(tmp_path: Path, flag: str, style: str) -> None:
    tree = sample_tree(tmp_path / "tree")
    (tree / "out").unlink()  # leads out
    if style == "ustar":
        (tree / "long-link").unlink()
        shutil.rmtree(tree / "src/deep")
    subprocess.run(
        ["tar", f"--format={style}", flag, "--owner=7", "--group=7", "-cf", tmp_path / "a", "-C", tree, "."], check=True
    )
    tally = Tally()
    members = rewritten(tmp_path / "a", tally)
    assert {(member.uid, member.gid) for member in members} == {(0, 0)}
    (tmp_path / "copy").mkdir()
    subprocess.run(["tar", "-xpf", tmp_path / "rewritten", "-C", tmp_path / "copy"], check=True)
    assert seen(tmp_path / "copy", times=style == "posix") == seen(tree, times=style == "posix")
    assert tally.files == len([path for path in tree.rglob("*") if path.is_symlink() or not path.is_dir()])


def test_hard_links_and_folders_named_twice_or_late_are_taken(tmp_path: Path) -> None:
    path = archive(
        tmp_path / "a",
        ("./", "DIRTYPE", ""),
        ("d/f", "REGTYPE", b"x"),
        ("d", "DIRTYPE", ""),
        ("d/", "DIRTYPE", ""),
        ("./d/h", "LNKTYPE", "./d/f"),
        ("d/hh", "LNKTYPE", "d/h"),
        ("d/up", "SYMTYPE", "x/../../d"),
    )
    assert [(member.name, member.linkname) for member in rewritten(path)] == [
        ("d/f", ""),
        ("d", ""),
        ("d/h", "d/f"),
        ("d/hh", "d/h"),
        ("d/up", "x/../../d"),
    ]


F = ("f", "REGTYPE", b"x")


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([("/etc/x", "REGTYPE", b"x")], "/etc/x: an absolute path"),
        ([("a/../../x", "REGTYPE", b"x")], "a/../../x: a path with .."),
        ([F, F], "f: a second entry"),
        ([F, ("./f", "SYMTYPE", "x")], "./f: a second entry"),
        ([("d/f", "REGTYPE", b""), ("d", "SYMTYPE", "x")], "d: a second entry"),
        ([("l", "SYMTYPE", "sub"), ("l/f", "REGTYPE", b"x")], "l/f: an entry below something"),
        ([F, ("f/g", "REGTYPE", b"x")], "f/g: an entry below something"),
        ([("l", "SYMTYPE", "/etc/passwd")], "l: a link out of the tree, to /etc/passwd"),
        ([("d/l", "SYMTYPE", "../../x")], "d/l: a link out of the tree"),
        ([("l", "LNKTYPE", "/etc/passwd")], "l: an absolute path"),
        ([("l", "LNKTYPE", "f"), F], "l: a link to f, which is no file"),
        ([("l", "LNKTYPE", "l")], "l: a link to l, which is no file"),
        ([("l", "LNKTYPE", "d/f"), F], "l: a link to d/f, which is no file"),
        ([("l", "SYMTYPE", "f"), ("h", "LNKTYPE", "l")], "h: a link to l, which is no file"),
        ([("c", "CHRTYPE", "")], "c: a device"),
        ([("b", "BLKTYPE", "")], "b: a device"),
        ([("p", "FIFOTYPE", "")], "p: a fifo"),
        ([("s", "GNUTYPE_SPARSE", "")], "s is a sparse file"),
        ([("", "REGTYPE", b"x")], "an entry without a name"),
        ([("\x1b[2J", "FIFOTYPE", "")], r"\x1b[2J: a fifo"),
    ],
)
def test_entries_that_are_not_right_are_named(
    tmp_path: Path, members: list[tuple[str, str, bytes | str]], why: str
) -> None:
    error = refusal(archive(tmp_path / "a", ("ok", "REGTYPE", b"ok"), *members))
    assert error.code == "bad_archive"
    assert why in error.message


def test_every_truncation_is_seen(tmp_path: Path) -> None:
    whole = tar_bytes(("d", "DIRTYPE", ""), ("d/f", "REGTYPE", b"x" * 700), ("g", "REGTYPE", b""))
    end = whole.index(bytes(1024))
    for cut in range(0, end + 1, 256):
        (tmp_path / "a").write_bytes(whole[:cut])
        assert refusal(tmp_path / "a").code == "bad_archive"


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_truncated_and_damaged_compression_is_seen(tmp_path: Path, suffix: str) -> None:
    plain = tar_bytes(("f", "REGTYPE", os.urandom(300_000)))
    (tmp_path / "plain").write_bytes(plain)
    tool = {"gz": ["gzip", "-k"], "zst": ["zstd", "-q", "--check"]}[suffix]
    subprocess.run([*tool, tmp_path / "plain"], check=True)
    packed = (tmp_path / f"plain.{suffix}").read_bytes()
    damaged = bytearray(packed)
    damaged[len(packed) // 2] ^= 0xFF
    for broken in (packed[:-3], packed[: len(packed) // 2], bytes(damaged), packed[:10]):
        (tmp_path / "a").write_bytes(broken)
        assert refusal(tmp_path / "a").code == "bad_archive"
    (tmp_path / "a").write_bytes(packed)
    assert [member.name for member in rewritten(tmp_path / "a")] == ["f"]


def test_a_small_archive_cannot_become_a_large_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "_MAX_STREAM_BYTES", 1 << 20)
    bomb = tar_bytes(("f", "REGTYPE", b"x"))[:1024] + bytes(2 << 20)
    (tmp_path / "a").write_bytes(gzip.compress(bomb))
    assert refusal(tmp_path / "a").code == "seed_too_large"


def test_what_says_that_it_is_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("f")
    info.size = limits.MAX_BYTES + 1
    (tmp_path / "a").write_bytes(info.tobuf(tarfile.GNU_FORMAT))
    assert refusal(tmp_path / "a").code == "seed_too_large"


def test_folders_without_entries_and_repeated_entries_count(tmp_path: Path) -> None:
    deep = "/".join("abcdefgh")
    repeated: tuple[str, str, bytes | str] = ("d", "DIRTYPE", "")
    path = archive(tmp_path / "a", (f"{deep}/f", "REGTYPE", b"x"), repeated, repeated, ("./", "DIRTYPE", ""))
    tally = Tally()
    rewritten(path, tally)
    assert (tally.entries, tally.files) == (12, 1)
    with pytest.raises(InvalidRequest, match="more than 11 files and folders"):
        rewritten(path, Tally(max_entries=11))


def test_memory_grows_with_names_and_not_with_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = "/".join(["n" * 100] * 30)
    path = archive(tmp_path / "a", (f"{deep}/f", "REGTYPE", b"x"), (f"{deep}/g", "REGTYPE", b"x"))
    tracemalloc.start()
    standing, before = Standing(Tally()), tracemalloc.get_traced_memory()[0]
    for top in range(100):
        standing.place((b"%d" % top, *[b"name"] * 250, b"f"), "file")
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert used < 100 * 252 * 300
    tally = Tally()
    rewritten(path, tally)
    assert tally.kept == 3002
    monkeypatch.setattr(limits, "MAX_KEPT_BYTES", 3001)
    assert refusal(path).code == "seed_too_large"


def test_python_without_zstd_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(20))

    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    assert "cannot read zstd" in refusal(tmp_path / "a").message


def test_reading_does_not_close_the_archive(tmp_path: Path) -> None:
    fd = os.open(archive(tmp_path / "a", F), os.O_RDONLY)
    with compression.unpacked(fd) as stream:
        assert isinstance(stream.read(10), bytes)
    os.close(fd)
