"""The diff tool's stream, right and wrong, in any pieces."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.guest.violation import ProtocolViolation
from pyro_mcp.workspace import diff as diff_module
from pyro_mcp.workspace.diff import _Reading, diff
from pyro_mcp.workspace_models import DiffEntry, DiffReport, DiffRequest
from tests.support.live_guest import live_guest

ENTRY: dict[str, Any] = {
    "path": "a",
    "change": "modified",
    "kind": "file",
    "old_path": None,
    "old_mode": 0o100644,
    "new_mode": 0o100755,
    "insertions": 2,
    "deletions": 1,
    "binary": False,
    "text_bytes": 0,
}
END = b'{"end":true,"truncated":false}\n'


def _entry(text: bytes = b"", **changes: Any) -> bytes:
    return json.dumps({**ENTRY, "text_bytes": len(text), **changes}).encode() + b"\n" + text


async def _report(tmp_path: Path, answer: bytes, max_bytes: int = 1000) -> DiffReport:
    async with live_guest(tmp_path) as (guest, client):
        guest.tools.answers["diff"] = answer
        report = await diff(client, DiffRequest(max_bytes))
    assert guest.requests[0]["tool"] == {"name": "diff", "max_bytes": max_bytes}
    return report


async def test_entries_and_text(tmp_path: Path) -> None:
    renamed = _entry(b'{"end":true}\n\xff', path="b", change="renamed", old_path="old", binary=True, insertions=0)
    report = await _report(tmp_path, _entry(b"--- a\n+++ b\n") + renamed + _entry(path="c") + END)
    assert report.entries == (
        DiffEntry("a", "modified", "file", None, 0o100644, 0o100755, 2, 1, binary=False),
        DiffEntry("b", "renamed", "file", "old", 0o100644, 0o100755, 0, 1, binary=True),
        DiffEntry("c", "modified", "file", None, 0o100644, 0o100755, 2, 1, binary=False),
    )
    assert report.text == b'--- a\n+++ b\n{"end":true}\n\xff'
    assert (report.truncated, report.insertions, report.deletions) == (False, 4, 3)


async def test_nothing_differs(tmp_path: Path) -> None:
    assert await _report(tmp_path, END) == DiffReport((), b"", False, 0, 0)


async def test_text_that_does_not_fit_is_told(tmp_path: Path) -> None:
    assert (await _report(tmp_path, _entry() + b'{"end":true,"truncated":true}\n')).truncated


async def test_more_entries_than_anybody_reads_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diff_module, "_MOST_ENTRIES", 3)
    report = await _report(tmp_path, _entry(b"text") * 5 + END)
    assert (len(report.entries), report.text, report.truncated) == (3, b"text" * 3, True)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\n",
        b"rubbish\n",
        _entry(),
        _entry(b"text")[:-1],
        END[:-1],
        END + b"x",
        END + END,
        END + _entry(),
        b'{"end":true}\n',
        _entry(change="painted") + END,
        _entry(text_bytes=-1) + END,
        _entry(text_bytes=1 << 40) + END,
        _entry(insertions=-1) + END,
        _entry(old_mode=-1) + END,
        _entry(new_mode=1 << 20) + END,
        _entry(path=None) + END,
        _entry(more=1) + END,
        b'{"path":"a"}\n' + END,
        b"x" * 100_000,
    ],
    ids=lambda answer: repr(answer[-50:]),
)
async def test_a_stream_without_sense_is_a_violation(tmp_path: Path, answer: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        await _report(tmp_path, answer)


async def test_text_beyond_all_measure_is_a_violation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diff_module, "_TEXT_SLACK", 10)
    assert (await _report(tmp_path, _entry(b"x" * 1010) + END)).text == b"x" * 1010
    with pytest.raises(ProtocolViolation):
        await _report(tmp_path, _entry(b"x" * 600) + _entry(b"x" * 411) + END)


@pytest.mark.parametrize("max_bytes", [-1, (64 << 20) + 1])
async def test_a_bound_out_of_range_is_refused(tmp_path: Path, max_bytes: int) -> None:
    async with live_guest(tmp_path) as (_, client):
        with pytest.raises(InvalidRequest):
            await diff(client, DiffRequest(max_bytes))


async def _read(pieces: list[bytes]) -> DiffReport:
    reading = _Reading(1 << 20)
    for piece in pieces:
        await reading.take(piece)
    return reading.report(truncated=reading.finish())


@given(st.lists(st.integers(1, 40), min_size=1, max_size=20), st.lists(st.binary(max_size=60), max_size=4))
async def test_the_stream_may_come_in_any_pieces(cuts: list[int], texts: list[bytes]) -> None:
    whole = b"".join(_entry(text, path=str(number)) for number, text in enumerate(texts)) + END
    pieces, at, turn = [], 0, 0
    while at < len(whole):
        pieces.append(whole[at : at + cuts[turn % len(cuts)]])
        at, turn = at + len(pieces[-1]), turn + 1
    report = await _read(pieces)
    assert report.text == b"".join(texts)
    assert [entry.path for entry in report.entries] == [str(number) for number in range(len(texts))]


@given(st.binary(max_size=200))
async def test_rubbish_is_a_violation_and_nothing_else(data: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        await _read([data, b"\n"])


@given(st.integers(0, 10_000), st.integers(0, 255))
async def test_a_spoiled_stream_is_a_report_or_a_violation(at: int, byte: int) -> None:
    whole = bytearray(_entry(b"some text\n") + _entry(path="b") + END)
    whole[at % len(whole)] = byte
    try:
        report = await _read([bytes(whole)])
    except ProtocolViolation:
        return
    assert len(report.entries) <= 2
