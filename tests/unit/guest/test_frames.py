"""Frames on a stream: any split of the bytes decodes to the same, and rubbish is refused before it is stored."""

import itertools
import json
import struct
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyro_mcp.guest.frames import MAX_PAYLOAD, FrameDecoder, Message, Output, Tag, frame, message_frame
from pyro_mcp.guest.violation import ProtocolViolation

_contents = st.dictionaries(st.text(max_size=5), st.text(max_size=10) | st.integers() | st.none(), max_size=4).map(
    lambda fields: {**fields, "type": "t"}
)
_items = st.lists(
    st.builds(Output, st.sampled_from((Tag.STDOUT, Tag.STDERR)), st.binary(max_size=40))
    | st.builds(Message, _contents),
    max_size=6,
)


def _encoded(items: Iterable[Output | Message]) -> bytes:
    return b"".join(
        frame(item.tag, item.data) if isinstance(item, Output) else message_frame(item.content) for item in items
    )


def _merged(items: Iterable[Output | Message]) -> list[Output | Message]:
    """Neighbouring outputs of one kind as one: how a command's output is cut into frames means nothing."""
    merged: list[Output | Message] = []
    for item in items:
        last = merged[-1] if merged else None
        if isinstance(item, Output) and not item.data:
            continue
        if isinstance(item, Output) and isinstance(last, Output) and last.tag is item.tag:
            merged[-1] = Output(item.tag, last.data + item.data)
        else:
            merged.append(item)
    return merged


def _decoded(pieces: Iterable[bytes], decoder: FrameDecoder | None = None) -> list[Output | Message]:
    decoder = decoder or FrameDecoder()
    return [item for piece in pieces for item in decoder.feed(piece)]


def _cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(_items, st.lists(st.integers(0, 1000), max_size=20))
def test_any_split_of_the_bytes_decodes_to_the_same(items: list[Output | Message], places: list[int]) -> None:
    decoder = FrameDecoder()
    assert _merged(_decoded(_cut(_encoded(items), places), decoder)) == _merged(items)
    assert not decoder.inside_frame


@given(_items)
def test_byte_by_byte_decodes_to_the_same(items: list[Output | Message]) -> None:
    encoded = _encoded(items)
    assert _merged(_decoded(encoded[at : at + 1] for at in range(len(encoded)))) == _merged(items)


@given(st.lists(st.binary(max_size=30), max_size=8))
@example([b"\x03\x00\x00\x00\x02[]"])
@example([b"\x01\xff\xff\xff\xff"])
def test_any_bytes_at_all_are_decoded_or_refused(pieces: list[bytes]) -> None:
    try:
        items = _decoded(pieces)
    except ProtocolViolation:
        return
    assert all(isinstance(item, Output | Message) for item in items)


@given(st.sampled_from((1, 2, 3)), st.integers(1, 100), st.data())
def test_an_end_inside_a_frame_is_seen(tag: int, length: int, data: st.DataObject) -> None:
    whole = struct.pack(">BI", tag, length) + b" " * length
    decoder = FrameDecoder()
    _decoded([whole[: data.draw(st.integers(1, len(whole) - 1))]], decoder)
    assert decoder.inside_frame


def test_output_is_handed_on_before_its_frame_is_complete() -> None:
    decoder = FrameDecoder()
    assert _decoded([struct.pack(">BI", 1, 10) + b"abc"], decoder) == [Output(Tag.STDOUT, b"abc")]
    assert _decoded([b"defg"], decoder) == [Output(Tag.STDOUT, b"defg")]
    assert decoder.inside_frame
    assert _decoded([b"hij"], decoder) == [Output(Tag.STDOUT, b"hij")]
    assert not decoder.inside_frame


def test_a_frame_without_content_is_an_output_of_nothing() -> None:
    assert _decoded([frame(Tag.STDERR, b"")]) == [Output(Tag.STDERR, b"")]


@pytest.mark.parametrize("tag", [0, 4, 5, 127, 255])
def test_an_unknown_tag_is_refused(tag: int) -> None:
    with pytest.raises(ProtocolViolation, match=f"tag {tag}"):
        _decoded([struct.pack(">BI", tag, 0)])


@pytest.mark.parametrize("tag", [1, 2, 3])
@pytest.mark.parametrize("length", [MAX_PAYLOAD + 1, 2**31, 2**32 - 1])
def test_an_oversized_length_is_refused_at_its_header(tag: int, length: int) -> None:
    with pytest.raises(ProtocolViolation, match=str(length)):
        _decoded([struct.pack(">BI", tag, length)])


def test_the_largest_frames_are_taken() -> None:
    assert _merged(_decoded([frame(Tag.STDOUT, b"x" * MAX_PAYLOAD)])) == [Output(Tag.STDOUT, b"x" * MAX_PAYLOAD)]
    text = "x" * (MAX_PAYLOAD - len('{"type":""}'))
    assert _decoded([message_frame({"type": text})]) == [Message({"type": text})]


def test_larger_ones_are_not_made() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        frame(Tag.STDIN, b"x" * (MAX_PAYLOAD + 1))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"nonsense",
        b'{"type": "x"',
        b'{"type": "x"} ',
        b'{"type": "x"}{}',
        b"[]",
        b'"type"',
        b"null",
        b"1",
        b"{}",
        b'{"type": 1}',
        b'{"type": null}',
        b'{"kind": "x"}',
        b'{"type": "\xff"}',
        b'{"type": "x", "a": "\\ud800"}',
        '{"type": "x"}'.encode("utf-16"),
        b'\xef\xbb\xbf{"type": "x"}',
        b"1" * 5000,
        b"[" * 1000,
        b"[" * MAX_PAYLOAD,
        b'{"a":' * 200_000,
    ],
    ids=lambda payload: repr(payload[:16]),
)
def test_messages_that_are_no_json_objects_with_a_type_are_refused(payload: bytes) -> None:
    if payload == b'{"type": "x"} ':  # blanks around JSON mean nothing
        assert _decoded([frame(Tag.MESSAGE, payload)]) == [Message({"type": "x"})]
        return
    with pytest.raises(ProtocolViolation):
        _decoded([frame(Tag.MESSAGE, payload)])


@given(_contents)
def test_a_message_is_one_compact_utf8_object(content: dict[str, object]) -> None:
    encoded = message_frame(content)
    tag, length = struct.unpack_from(">BI", encoded)
    assert (tag, length) == (3, len(encoded) - 5)
    assert json.loads(encoded[5:].decode("utf-8")) == content
