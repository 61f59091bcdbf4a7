"""What is shown of output, and pages of it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_mcp.errors import InvalidRequest, NotFound
from pyro_mcp.guest.messages import Exec
from pyro_mcp.guest.violation import ProtocolViolation
from pyro_mcp.workspace.output import Shown, cut_head, cut_tail, read_page, shown
from pyro_mcp.workspace_models import SHOWN_OUTPUT_BYTES, OutputPage, OutputQuery
from tests.support.live_guest import live_guest


def _shown(*pieces: bytes) -> tuple[bytes, bytes]:
    passing = Shown()
    for piece in pieces:
        passing.add(piece)
    return passing.ends()


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 8191, 8192])
def test_little_output_is_shown_whole(size: int) -> None:
    data = bytes(n % 251 for n in range(size))
    assert _shown(data) == (data, b"")
    assert _shown(*(data[at : at + 100] for at in range(0, size, 100))) == (data, b"")


def test_much_output_is_shown_at_both_ends() -> None:
    assert _shown(b"a" * 8193) == (b"a" * 4096, b"a" * 4096)
    lines = b"".join(b"line %d\n" % number for number in range(10_000))
    head, tail = _shown(*(lines[at : at + 7] for at in range(0, len(lines), 7)))
    assert lines.startswith(head)
    assert lines.endswith(tail)
    assert head.endswith(b"\n")
    assert tail.startswith(b"line ")
    assert 4000 < len(head) <= 4096
    assert 4000 < len(tail) <= 4096


@given(st.lists(st.integers(0, 9000), max_size=8), st.sampled_from([b"ab\n", "äö€😀".encode(), b"\x80\xff", b"x"]))
def test_it_does_not_matter_how_output_is_cut(sizes: list[int], pattern: bytes) -> None:
    whole = (pattern * 80_000)[: sum(sizes)]
    pieces, at = [], 0
    for size in sizes:
        pieces.append(whole[at : at + size])
        at += size
    head, tail = _shown(*pieces)
    assert (head, tail) == _shown(whole)
    assert len(head) + len(tail) <= SHOWN_OUTPUT_BYTES
    assert whole.startswith(head)
    assert whole.endswith(tail)
    assert bool(tail) == (len(whole) > SHOWN_OUTPUT_BYTES)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\n"), min_size=20), st.integers(0, 3))
def test_text_is_not_cut_inside_a_character(text: str, cut: int) -> None:
    data = text.encode()
    cut_head(data[: len(data) - cut]).decode()
    cut_tail(data[cut:]).decode()


@pytest.mark.parametrize("data", [b"", b"\x80" * 10, b"\xff", b"\xe2\x82", b"\n", b"a\n", b"\xf0"])
def test_what_is_no_text_is_cut_somewhere(data: bytes) -> None:
    assert data.startswith(cut_head(data))
    assert data.endswith(cut_tail(data))


async def _keep(client: object, script: str) -> None:
    async with client.exec(Exec(("sh", "-c", script), cwd="/workspace", keep="x-1")) as command:  # type: ignore[attr-defined]
        async for _ in command.events():
            pass


async def test_pages(tmp_path: Path) -> None:
    async with live_guest(tmp_path) as (guest, client):
        await _keep(client, "seq 1000")
        first = await read_page(client, "x-1", OutputQuery(limit=10))
        matching = await read_page(client, "x-1", OutputQuery(grep="99"))
        last = await read_page(client, "x-1", OutputQuery(offset=3890))
        with pytest.raises(InvalidRequest) as bad:
            await read_page(client, "x-1", OutputQuery(grep="("))
        with pytest.raises(NotFound) as gone:
            await read_page(client, "x-2", OutputQuery())
    assert first == OutputPage("x-1", 0, b"1\n2\n3\n4\n5\n", 3893, running=False, next_offset=10)
    assert (last.data, last.next_offset) == (b"00\n", None)
    assert b"".join(b"%d\n" % n for n in range(1001) if "99" in str(n)) == matching.data
    assert (bad.value.code, gone.value.code) == ("bad_pattern", "output_gone")
    assert guest.requests[1]["tool"] == {"name": "output", "id": "x-1", "offset": 0, "limit": 10, "grep": None}


async def test_the_ends_of_kept_output(tmp_path: Path) -> None:
    async with live_guest(tmp_path) as (guest, client):
        await _keep(client, "seq 10000")
        whole = b"".join(b"%d\n" % n for n in range(1, 10_001))
        assert await shown(client, "x-1") == _shown(whole)
        assert await shown(client, "x-2") == (b"", b"")
        assert len(guest.asked("tool")) == 3


@pytest.mark.parametrize(
    "query",
    [
        OutputQuery(offset=-1),
        OutputQuery(offset=1 << 63),
        OutputQuery(limit=0),
        OutputQuery(limit=(1 << 20) + 1),
        OutputQuery(grep=""),
        OutputQuery(grep="x" * 5000),
    ],
    ids=lambda query: repr(query)[:60],
)
async def test_what_cannot_be_asked_is_refused(tmp_path: Path, query: OutputQuery) -> None:
    async with live_guest(tmp_path) as (guest, client):
        with pytest.raises(InvalidRequest):
            await read_page(client, "x-1", query)
    assert guest.requests == []


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"{}\n",
        b'{"offset": -1, "next_offset": null, "total_bytes": 0, "running": false}\n',
        b'{"offset": 0, "next_offset": -1, "total_bytes": 0, "running": false}\n',
        b'{"offset": 0, "next_offset": null, "total_bytes": -1, "running": false}\n',
        b'{"offset": 0, "next_offset": null, "total_bytes": 0, "running": 1}\n',
        b'{"offset": 0, "next_offset": null, "total_bytes": 9, "running": false}\n' + b"x" * 9,
    ],
    ids=repr,
)
async def test_a_page_without_sense_is_a_violation(tmp_path: Path, answer: bytes) -> None:
    async with live_guest(tmp_path) as (guest, client):
        guest.tools.answers["output"] = answer
        with pytest.raises(ProtocolViolation):
            await read_page(client, "x-1", OutputQuery(limit=8))
