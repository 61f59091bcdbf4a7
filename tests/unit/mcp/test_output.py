"""Bytes as text for models."""

import json

from hypothesis import given
from hypothesis import strategies as st

from pyro_mcp.mcp import output

EURO = "\u20ac".encode()  # three bytes


def test_bytes_that_are_no_text() -> None:
    assert output.text(b"a\xffb\0c\x1b[0m") == "a\ufffdb\u2400c\x1b[0m"


def test_characters_that_were_cut() -> None:
    assert output.whole_characters(b"ab" + EURO[:2]) == b"ab"
    assert output.whole_characters(b"ab" + EURO) == b"ab" + EURO
    assert output.without_rest_of_character(EURO[1:] + b"ab") == b"ab"
    assert output.without_rest_of_character(b"") == b""


def test_lines_that_were_cut() -> None:
    assert output.whole_lines(b"one\ntwo\nth") == b"one\ntwo\n"
    assert output.whole_lines(b"a\nmuch longer than that") == b"a\nmuch longer than that"


def test_head_and_tail_say_where_the_rest_is() -> None:
    shown = output.head_and_tail(b"begin" + EURO[:1], EURO[2:] + b"end", 100, "; read on at {offset}")
    assert shown == "begin\n[92 bytes left out; read on at 5]\nend"
    assert output.head_and_tail(b"all", b"", 3, "") == "all"


def test_output_that_fits_is_shown_whole() -> None:
    shown = output.Shown(100)
    for part in (b"a" * 60, b"b" * 40):
        shown.add(part)
    assert shown.text(100) == "a" * 60 + "b" * 40
    assert shown.text(30) == "a" * 30 + "\n[70 bytes left out]\n"


@given(st.lists(st.binary(max_size=300), max_size=40), st.integers(1, 200))
def test_however_it_comes_it_stays_small(parts: list[bytes], limit: int) -> None:
    shown = output.Shown(limit)
    for part in parts:
        shown.add(part)
    words = shown.text(limit)
    whole = b"".join(parts)
    assert shown.total == len(whole)
    assert len(words) <= limit + 40
    assert json.loads(json.dumps(words)) == words
    if len(whole) <= limit:
        assert words == output.text(whole)
    else:
        assert "bytes left out" in words
