"""Lines in, lines out, and a stdout that nobody else writes to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_mcp.mcp.stdio import LineReader, LineWriter, write_all


def lines_of(data: bytes, *, limit: int = 1 << 20) -> list[bytes]:
    """All lines of a file that holds this."""
    fd = os.memfd_create("lines")
    try:
        write_all(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        reader = LineReader(fd, limit)
        return list(iter(reader.next, None))
    finally:
        os.close(fd)


def test_lines_with_and_without_an_end() -> None:
    assert lines_of(b"one\r\n\n  \ntwo\nthree") == [b"one", b"two", b"three"]
    assert lines_of(b"") == []


def test_lines_longer_than_a_read() -> None:
    assert lines_of(b"a" * 200_000 + b"\nb\n") == [b"a" * 200_000, b"b"]


def test_a_line_that_is_too_long_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines_of(b"x" * 300_000 + b"\nb\n" + b"y" * 300_000, limit=1000) == [b"b"]
    assert capsys.readouterr().err.count("left out a message of 300000 bytes") == 2


@given(st.lists(st.binary(min_size=1, max_size=50).filter(lambda line: b"\n" not in line and line.strip() == line)))
def test_lines_come_as_they_were_sent(lines: list[bytes]) -> None:
    assert lines_of(b"\n".join(lines)) == lines


def test_lines_are_given_as_they_come() -> None:
    ours, theirs = os.pipe()
    reader = LineReader(ours)
    os.write(theirs, b"one\ntw")
    assert reader.next() == b"one"
    os.write(theirs, b"o\n")
    assert reader.next() == b"two"
    os.close(theirs)
    assert reader.next() is None
    os.close(ours)


def test_what_is_written_arrives_before_the_end() -> None:
    ours, theirs = os.pipe()
    writer = LineWriter(theirs)
    writer.write(b"one")
    writer.write(b"two")
    writer.close()
    os.close(theirs)
    assert os.read(ours, 100) == b"one\ntwo\n"
    os.close(ours)


def test_a_reader_that_is_gone_is_no_trouble() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    writer = LineWriter(theirs)
    writer.write(b"one")
    writer.close()
    os.close(theirs)


def test_stdout_is_taken_away_from_everybody_else(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\nfrom pyro_mcp.mcp.stdio import claim, write_all\n"
        "wire_in, wire_out = claim()\nprint('chatter', flush=True)\nos.system('echo child')\n"
        "write_all(wire_out, os.read(wire_in, 100) + sys.stdin.read().encode())\n"
    )
    ended = subprocess.run([sys.executable, program], input=b"message", capture_output=True, check=True)
    assert ended.stdout == b"message"
    assert sorted(ended.stderr.split()) == [b"chatter", b"child"]
