"""What a hostile export may cost the host: memory, entries and room on the disk."""

import io
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from pyro_mcp.errors import HostUnfit, InvalidRequest
from pyro_mcp.transfer import limits
from pyro_mcp.transfer.landing import Landing
from pyro_mcp.transfer.limits import Tally
from pyro_mcp.transfer.tar_reader import BadTar, TarReader
from tests.support.trees import tar_bytes

Members = tuple[str, str, bytes | str]
TOP: Members = ("./", "DIRTYPE", "")


def received(output: Path, data: bytes, **limited: int) -> Tally:
    """What was counted of a stream; `limited` are limits of the tally."""
    landing = Landing(output)
    try:
        for name, value in limited.items():
            setattr(landing.tally, name, value)
        landing.receive(io.BytesIO(data))
    finally:
        landing.close()
    return landing.tally


def with_target(letter: bytes, target: str) -> bytes:
    """A stream of one entry with a target in an extended header."""
    info = tarfile.TarInfo("./x")
    info.type = letter
    info.pax_headers = {"linkpath": target}
    return info.tobuf(tarfile.PAX_FORMAT) + bytes(1024)


def test_only_links_have_targets_and_no_endless_ones() -> None:
    for letter, target in ((tarfile.SYMTYPE, b"t" * 4096), (tarfile.LNKTYPE, b"t" * 4096), (tarfile.DIRTYPE, b"")):
        (member,) = TarReader(io.BytesIO(with_target(letter, "t" * 4096))).members()
        assert member.target == target
    for letter in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        with pytest.raises(BadTar, match="4096 bytes"):
            list(TarReader(io.BytesIO(with_target(letter, "t" * 4097))).members())


def test_folders_that_come_again_are_counted_and_not_kept(tmp_path: Path) -> None:
    again = with_target(tarfile.DIRTYPE, "t" * 900_000)[:-1024]
    data = again * 20 + bytes(1024)
    tracemalloc.start()
    tally = received(tmp_path / "x", data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tally.entries, tally.files, tally.kept) == (20, 0, 1)
    assert peak < 10 << 20
    with pytest.raises(InvalidRequest, match="more than 19 files and folders"):
        received(tmp_path / "x", data, max_entries=19)


def test_every_header_counts_also_of_what_stays_behind(tmp_path: Path) -> None:
    data = tar_bytes(TOP, TOP, ("./.git", "DIRTYPE", ""), ("./.git/x", "REGTYPE", b"x"), ("./d", "DIRTYPE", ""))
    tally = received(tmp_path / "x", data)
    assert (tally.entries, tally.files, tally.bytes) == (5, 0, 0)
    with pytest.raises(InvalidRequest, match="more than 4 files and folders"):
        received(tmp_path / "x", data, max_entries=4)


def test_what_has_no_place_takes_none(tmp_path: Path) -> None:
    kinds = ("FIFOTYPE", "CHRTYPE", "BLKTYPE")
    data = tar_bytes(TOP, *((f"./{kind}/x", kind, "") for kind in kinds), ("./f", "REGTYPE", b""))
    tally = received(tmp_path / "x", data)
    assert (tally.entries, tally.files, tally.taken, tally.kept) == (5, 1, 4096, 0)
    with pytest.raises(InvalidRequest, match="more than 4 files and folders"):
        received(tmp_path / "x", data, max_entries=4)


def test_folders_without_entries_count_as_entries_and_room(tmp_path: Path) -> None:
    data = tar_bytes(TOP, ("./a/b/c/d/f", "REGTYPE", b"x"))
    tally = received(tmp_path / "x", data)
    assert (tally.entries, tally.files, tally.bytes, tally.taken) == (6, 1, 1, 5 * 4096)
    received(tmp_path / "x", data, max_bytes=5 * 4096)
    with pytest.raises(HostUnfit, match="too much"):
        received(tmp_path / "x", data, max_bytes=5 * 4096 - 1)
    with pytest.raises(InvalidRequest, match="more than 5 files and folders"):
        received(tmp_path / "x", data, max_entries=5)


def test_files_take_whole_blocks(tmp_path: Path) -> None:
    data = tar_bytes(TOP, *((f"./{size}", "REGTYPE", bytes(size)) for size in (0, 1, 4096, 4097)))
    tally = received(tmp_path / "x", data)
    assert (tally.bytes, tally.taken) == (8194, 5 * 4096)
    with pytest.raises(HostUnfit, match="too much"):
        received(tmp_path / "x", data, max_bytes=5 * 4096 - 1)


def test_names_that_are_kept_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = tar_bytes(TOP, *((f"./{number}", "DIRTYPE", "") for number in range(10)))
    heads = tar_bytes(TOP, *((f"./{number}/HEAD", "REGTYPE", b"") for number in range(10)))
    monkeypatch.setattr(limits, "MAX_KEPT_BYTES", 10)
    assert [received(tmp_path / "x", data).kept for data in (folders, heads)] == [10, 10]
    monkeypatch.setattr(limits, "MAX_KEPT_BYTES", 9)
    for data in (folders, heads):
        with pytest.raises(InvalidRequest, match="of names"):
            received(tmp_path / "x", data)
