"""JSON of a guest is text that can be written again, or it is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_mcp.guest.json_text import parsed


@pytest.mark.parametrize(
    "text",
    [
        r'"\ud800"',
        r'"\uDFFF"',
        r'"\ude00\ud83d"',
        r'{"a": [{"b": "x\udbffx"}]}',
        r'{"\udc00": 1}',
        r'"\\\ud800"',
        "[" * 100_000,
        "nonsense",
    ],
    ids=lambda text: text[:20],
)
def test_what_cannot_be_written_again_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of several kinds
        parsed(text.encode())


@pytest.mark.parametrize("data", [b'"\xed\xa0\x80"', b'"\xff"', '"x"'.encode("utf-16")])
def test_what_is_not_utf8_is_refused(data: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        parsed(data)


@pytest.mark.parametrize(
    ("text", "content"), [(r'"\ud83d\ude00"', "\U0001f600"), (r'"\\ud800"', r"\ud800"), (r'"\u00e9"', "\u00e9")]
)
def test_escapes_that_make_sense_are_taken(text: str, content: str) -> None:
    assert parsed(text.encode()) == content


@given(st.text() | st.dictionaries(st.text(), st.text()), st.booleans())
def test_any_text_is_taken(content: object, ascii_only: bool) -> None:
    assert parsed(json.dumps(content, ensure_ascii=ascii_only).encode()) == content
