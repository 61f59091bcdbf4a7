"""Listing, reading and writing files, with a guest that does it and with guests that lie."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pyro_mcp.errors import InvalidRequest, NotFound
from pyro_mcp.guest.violation import ProtocolViolation
from pyro_mcp.workspace.files import list_files, read_file, write_file
from pyro_mcp.workspace_models import FILE_BYTES, FileEntry, ListFiles, ReadFile, WriteFile, WrittenFile
from tests.support.fake_tools import ToolFailed
from tests.support.live_guest import live_guest

LISTED: dict[str, Any] = {
    "path": "/workspace/a",
    "kind": "file",
    "size": 1,
    "mode": 0o644,
    "mtime_ns": 0,
    "target": None,
}


def _lines(*contents: object) -> bytes:
    return b"".join(json.dumps(content).encode() + b"\n" for content in contents)


async def test_listing_a_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir(mode=0o755)
    (tmp_path / "sub/file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("sub/file")
    os.utime(tmp_path / "sub/file", ns=(0, 1_700_000_000_123_456_789))
    async with live_guest(tmp_path) as (_, client):
        listing = await list_files(client, ListFiles())
        deep = await list_files(client, ListFiles("sub/..", recursive=True))
        cut = await list_files(client, ListFiles("/workspace", recursive=True, limit=2))
    assert (listing.path, listing.truncated) == ("/workspace", False)
    assert [(entry.path, entry.kind, entry.target) for entry in listing.entries] == [
        ("/workspace/link", "symlink", "sub/file"),
        ("/workspace/sub", "directory", None),
    ]
    assert deep.entries[-1] == FileEntry(
        "/workspace/sub/file", "file", 5, 0o644, "2023-11-14T22:13:20.123456+00:00", None
    )
    assert (len(deep.entries), deep.truncated) == (3, False)
    assert (cut.entries, cut.truncated) == (deep.entries[:2], True)


@pytest.mark.parametrize("limit", [0, -1, 100_001])
async def test_a_limit_out_of_range_is_refused(tmp_path: Path, limit: int) -> None:
    async with live_guest(tmp_path) as (guest, client):
        with pytest.raises(InvalidRequest):
            await list_files(client, ListFiles(limit=limit))
    assert guest.requests == []


async def test_a_long_listing_arrives_whole(tmp_path: Path) -> None:
    async with live_guest(tmp_path) as (guest, client):
        guest.tools.answers["list"] = _lines(*({**LISTED, "path": f"/workspace/{n:05}"} for n in range(20_000)))
        listing = await list_files(client, ListFiles(limit=20_000))
    assert [entry.path for entry in listing.entries] == [f"/workspace/{n:05}" for n in range(20_000)]


@pytest.mark.parametrize(
    "answer",
    [
        b"rubbish\n",
        b"[]\n",
        b"\xff\n",
        b"[" * 1000 + b"\n",
        b"x" * 70_000,
        _lines({}),
        _lines(LISTED)[:-1],
        _lines({**LISTED, "kind": "door"}),
        _lines({**LISTED, "path": "relative"}),
        _lines({**LISTED, "path": "/workspace/\ud800"}),
        _lines({**LISTED, "target": "\udfff"}),
        _lines({**LISTED, "size": -1}),
        _lines({**LISTED, "size": 1 << 63}),
        _lines({**LISTED, "mode": 0o10000}),
        _lines({**LISTED, "mtime_ns": 1 << 80}),
        _lines({**LISTED, "more": 1}),
        _lines({"truncated": True}, LISTED),
        _lines({"truncated": False}),
        _lines(*[LISTED] * 4),
    ],
    ids=lambda answer: repr(answer[:60]),
)
async def test_a_listing_without_sense_is_a_violation(tmp_path: Path, answer: bytes) -> None:
    async with live_guest(tmp_path) as (guest, client):
        guest.tools.answers["list"] = answer
        with pytest.raises(ProtocolViolation):
            await list_files(client, ListFiles(limit=3))


async def test_a_time_that_no_calendar_knows_is_no_failure(tmp_path: Path) -> None:
    async with live_guest(tmp_path) as (guest, client):
        guest.tools.answers["list"] = _lines({**LISTED, "mtime_ns": -(1 << 36) * 10**9})
        listing = await list_files(client, ListFiles())
    assert listing.entries[0].modified_at == "1970-01-01T00:00:00+00:00"


async def test_reading_a_file_and_parts_of_it(tmp_path: Path) -> None:
    data = bytes(range(256)) * 1000
    (tmp_path / "a").write_bytes(data)
    async with live_guest(tmp_path) as (_, client):
        whole = await read_file(client, ReadFile("a"))
        part = await read_file(client, ReadFile("/workspace/a", max_bytes=10, offset=5))
        after = await read_file(client, ReadFile("a", offset=len(data) + 1))
    assert (whole.path, whole.data, whole.size, whole.truncated) == ("/workspace/a", data, len(data), False)
    assert (part.data, part.offset, part.size, part.truncated) == (data[5:15], 5, len(data), True)
    assert (after.data, after.truncated) == (b"", False)


@pytest.mark.parametrize(
    "request_",
    [
        ReadFile("a", max_bytes=0),
        ReadFile("a", max_bytes=FILE_BYTES + 1),
        ReadFile("a", offset=-1),
        ReadFile("a", offset=1 << 63),
        ReadFile("../a"),
    ],
    ids=repr,
)
async def test_what_cannot_be_read_is_not_asked_for(tmp_path: Path, request_: ReadFile) -> None:
    async with live_guest(tmp_path) as (guest, client):
        with pytest.raises(InvalidRequest):
            await read_file(client, request_)
    assert guest.requests == []


async def test_what_is_not_there_or_no_file(tmp_path: Path) -> None:
    async with live_guest(tmp_path) as (_, client):
        with pytest.raises(NotFound) as missing:
            await read_file(client, ReadFile("missing"))
        with pytest.raises(InvalidRequest) as folder:
            await read_file(client, ReadFile("/workspace"))
    assert (missing.value.code, folder.value.code) == ("file_not_found", "is_a_directory")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"no line",
        b"\n",
        b'{"size": -1, "mode": 0, "mtime_ns": 0}\n',
        b'{"size": 5}\n',
        b'{"size": 5, "mode": 0, "mtime_ns": 0}\n' + b"x" * 11,
    ],
    ids=repr,
)
async def test_a_file_without_sense_is_a_violation(tmp_path: Path, answer: bytes) -> None:
    async with live_guest(tmp_path) as (guest, client):
        guest.tools.answers["read"] = answer
        with pytest.raises(ProtocolViolation):
            await read_file(client, ReadFile("a", max_bytes=10))


async def test_writing_a_file(tmp_path: Path) -> None:
    async with live_guest(tmp_path) as (_, client):
        assert await write_file(client, WriteFile("x/y", b"one")) == WrittenFile("/workspace/x/y", 3, created=True)
        assert await write_file(client, WriteFile("x/y", b"")) == WrittenFile("/workspace/x/y", 0, created=False)
        large = bytes(FILE_BYTES)
        await write_file(client, WriteFile("large", large))
    assert (tmp_path / "x/y").read_bytes() == b""
    assert (tmp_path / "large").read_bytes() == large


async def test_too_much_is_not_written(tmp_path: Path) -> None:
    async with live_guest(tmp_path) as (guest, client):
        with pytest.raises(InvalidRequest) as caught:
            await write_file(client, WriteFile("x", bytes(FILE_BYTES + 1)))
    assert (caught.value.code, guest.requests) == ("file_too_large", [])


async def test_the_guests_reason_is_told(tmp_path: Path) -> None:
    async with live_guest(tmp_path) as (guest, client):
        guest.tools.answers["write"] = ToolFailed("not_a_directory", "/workspace/a is no folder")
        with pytest.raises(InvalidRequest, match="/workspace/a is no folder") as caught:
            await write_file(client, WriteFile("a/b", b""))
    assert caught.value.code == "not_a_directory"
