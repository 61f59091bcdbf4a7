"""Sync and export with the real agent at the other end."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from pyro_mcp.errors import GuestFailed, InvalidRequest, NotFound
from pyro_mcp.guest.client import GuestClient, reconnect
from pyro_mcp.models import Progress
from pyro_mcp.unix_path import connect_to
from pyro_mcp.workspace import transfer_progress
from pyro_mcp.workspace.export import export
from pyro_mcp.workspace.sync import push
from pyro_mcp.workspace_models import ExportPath, SyncPush
from tests.support.real_agent import AgentFolders, real_agent
from tests.support.trees import sample_tree, seen


async def quiet(_progress: Progress) -> None:
    pass


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[AgentFolders]:
    (tmp_path / "agent").mkdir()
    async with real_agent(tmp_path / "agent") as folders:
        yield folders


@pytest.fixture
async def guest(agent: AgentFolders) -> AsyncIterator[GuestClient]:
    async with reconnect(partial(connect_to, agent.socket), timeout_seconds=30) as client:
        yield client


async def test_a_tree_goes_in_and_comes_out_as_it_was(tmp_path: Path, agent: AgentFolders, guest: GuestClient) -> None:
    tree = sample_tree(tmp_path / "tree")
    pushed = await push(guest, SyncPush(str(tree), "a/b"), quiet)
    assert seen(agent.workspace / "a/b") == seen(tree)
    exported = await export(guest, ExportPath("a/b", f"{tmp_path}/copy"), quiet)
    wanted = seen(tree)
    del wanted["out"]
    assert seen(tmp_path / "copy") == wanted
    assert exported.skipped == ("out",)
    assert (exported.files, exported.bytes) == (pushed.files - 1, pushed.bytes)


async def test_what_has_no_place_on_the_host_is_named(tmp_path: Path, agent: AgentFolders, guest: GuestClient) -> None:
    (agent.workspace / "d").mkdir()
    (agent.workspace / "f").write_text("content")
    long = "n" * 200
    for name in ("pipe", os.fsdecode(b"\x1b[2J\n\xff"), f"d/{long}"):
        os.mkfifo(agent.workspace / name)
    with contextlib.chdir(agent.workspace), socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
    exported = await export(guest, ExportPath(".", f"{tmp_path}/copy"), quiet)
    assert exported.skipped == ("\\x1b[2J\\n\\xff", "pipe", "socket", f"d/{long}"[:60] + "..." + "n" * 57)
    assert (exported.skipped_kinds, exported.skipped_count) == (("devices, pipes or sockets",), 4)
    assert sorted(os.listdir(tmp_path / "copy")) == ["d", "f"]


async def test_one_file_comes_out(tmp_path: Path, agent: AgentFolders, guest: GuestClient) -> None:
    (agent.workspace / "d").mkdir()
    (agent.workspace / "d/f").write_text("content")
    assert (await export(guest, ExportPath("d/f", f"{tmp_path}/g"), quiet)).files == 1
    assert (tmp_path / "g").read_text() == "content"


async def test_sync_replaces_files_and_keeps_the_rest(tmp_path: Path, agent: AgentFolders, guest: GuestClient) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/f").write_text("new")
    (agent.workspace / "f").write_text("old")
    (agent.workspace / "other").write_text("mine")
    await push(guest, SyncPush(f"{tmp_path}/tree"), quiet)
    assert {path.name: path.read_text() for path in agent.workspace.iterdir()} == {"f": "new", "other": "mine"}


async def test_no_link_in_the_workspace_leads_a_sync_out(
    tmp_path: Path, agent: AgentFolders, guest: GuestClient
) -> None:
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/f").write_text("x")
    (tmp_path / "outside").mkdir()
    (agent.workspace / "sub").symlink_to(tmp_path / "outside")
    with pytest.raises(InvalidRequest):
        await push(guest, SyncPush(f"{tmp_path}/tree", "sub"), quiet)
    with pytest.raises(InvalidRequest):
        await push(guest, SyncPush(f"{tmp_path}/tree"), quiet)
    assert os.listdir(tmp_path / "outside") == []


async def test_a_sync_that_is_cancelled_leaves_old_files_or_new_ones(
    tmp_path: Path, agent: AgentFolders, guest: GuestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer_progress, "_EVERY_SECONDS", 0.001)  # all of it may take less than the usual time
    (tmp_path / "tree").mkdir()
    for number in range(40):
        (tmp_path / f"tree/{number:02}").write_bytes(b"new" * 700_000)
        (agent.workspace / f"{number:02}").write_bytes(b"old")
    begun = asyncio.Event()

    async def report(progress: Progress) -> None:
        if progress.done:
            begun.set()

    pushing = asyncio.create_task(push(guest, SyncPush(f"{tmp_path}/tree"), report))
    await begun.wait()
    pushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pushing
    await guest.ping()
    for path in agent.workspace.glob("[0-9]*"):
        assert path.read_bytes() in (b"old", b"new" * 700_000)


async def test_what_is_missing_or_outside_is_refused(tmp_path: Path, agent: AgentFolders, guest: GuestClient) -> None:
    (agent.workspace / "out").symlink_to("/etc")
    (tmp_path / "host").mkdir()
    with pytest.raises(NotFound):
        await export(guest, ExportPath("missing", f"{tmp_path}/host/x"), quiet)
    with pytest.raises(InvalidRequest):
        await export(guest, ExportPath("out", f"{tmp_path}/host/x"), quiet)
    assert os.listdir(tmp_path / "host") == []


async def test_a_guest_that_goes_away_leaves_nothing_half(tmp_path: Path, agent: AgentFolders) -> None:
    (agent.workspace / "large").touch()
    os.truncate(agent.workspace / "large", 2 << 30)
    (tmp_path / "host").mkdir()
    begun = asyncio.Event()

    async def report(progress: Progress) -> None:
        if progress.done:
            begun.set()

    async with reconnect(partial(connect_to, agent.socket), timeout_seconds=30) as guest:
        exporting = asyncio.create_task(export(guest, ExportPath(".", f"{tmp_path}/host/x"), report))
        await begun.wait()
    with pytest.raises(GuestFailed):
        await exporting
    assert os.listdir(tmp_path / "host") == []
