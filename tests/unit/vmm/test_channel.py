"""The sockets of machines, how their agents are reached, and the bounds of what a VMM prints."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from pyro_mcp.vmm import channel
from tests.support.descriptors import none_left
from tests.support.fake_agent import opened


@pytest.mark.parametrize("depth", [1, 20])
def test_a_socket_is_its_owners_alone_however_long_its_path(tmp_path: Path, depth: int) -> None:
    folder = tmp_path.joinpath(*["a-long-name"] * depth)
    folder.mkdir(parents=True)
    path = folder / "agent.sock"
    path.write_text("left by a dead one")
    with none_left():
        with channel.listening(path) as listener:
            assert path.is_socket()
            assert path.stat().st_mode & 0o777 == 0o600
            inside = os.open(folder, os.O_PATH)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(f"/proc/self/fd/{inside}/{path.name}")
                listener.accept()[0].close()
            os.close(inside)
        assert path.exists()


def test_a_log_takes_so_much_and_no_more() -> None:
    log = channel.BoundedLog()
    assert log.text() == ""
    os.write(log.fd, b"first words\n")
    assert log.text() == "first words\n"
    with pytest.raises(PermissionError):
        _write_much(log.fd)
    with pytest.raises(PermissionError):
        os.pwrite(log.fd, b"x", 256 * 1024)
    with pytest.raises(PermissionError):
        os.ftruncate(log.fd, 1 << 30)
    assert len(log.text()) <= 256 * 1024
    log.close()


def _write_much(fd: int) -> None:
    for _ in range(100):
        os.write(fd, b"x" * 10_000)


async def _for_ever() -> None:
    await asyncio.Future()


async def _at_once() -> None:
    """It has ended already."""


async def test_a_channel_is_opened_while_its_vmm_lives() -> None:
    ours, theirs = socket.socketpair()
    before = asyncio.all_tasks()
    with theirs:
        with await channel.while_alive(opened(ours), _for_ever)() as connection:
            assert connection is ours
        assert theirs.recv(1) == b""
    assert asyncio.all_tasks() == before


async def test_why_a_channel_cannot_be_opened_is_passed_on() -> None:
    async def refuse() -> socket.socket:
        raise ConnectionResetError("not yet")

    with pytest.raises(ConnectionResetError, match="not yet"):
        await channel.while_alive(refuse, _for_ever)()


async def test_the_end_of_a_vmm_is_seen_while_its_channel_is_waited_for() -> None:
    ended, given_up = asyncio.Event(), asyncio.Event()

    async def wait() -> socket.socket:
        try:
            return await asyncio.Future[socket.socket]()
        finally:
            given_up.set()

    before = asyncio.all_tasks()
    opening = asyncio.ensure_future(channel.while_alive(wait, ended.wait)())
    await asyncio.sleep(0.01)
    assert not opening.done()
    ended.set()
    async with asyncio.timeout(30):
        with pytest.raises(ConnectionRefusedError):
            await opening
    assert given_up.is_set()
    assert asyncio.all_tasks() == before


async def test_a_vmm_that_has_ended_has_no_channel_whoever_still_listens_at_it() -> None:
    """Its starter, for one, may have the listening socket still."""
    ours, theirs = socket.socketpair()
    with theirs:
        with pytest.raises(ConnectionRefusedError):
            await channel.while_alive(opened(ours), _at_once)()
        assert ours.fileno() == -1, "a connection is left"


@pytest.mark.parametrize("moment", ["waiting", "open"])
async def test_whoever_stops_waiting_for_a_channel_leaves_nothing(moment: str) -> None:
    ours, theirs = socket.socketpair()
    go = asyncio.Event()

    async def wait() -> socket.socket:
        await go.wait()
        return ours

    before = asyncio.all_tasks()
    with theirs, ours:
        opening = asyncio.ensure_future(channel.while_alive(wait, _for_ever)())
        await asyncio.sleep(0.01)
        if moment == "open":
            go.set()
            await asyncio.sleep(0)  # it is open, and whoever waits does not know it yet
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert (ours.fileno() == -1) == (moment == "open")
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("vmm", ["qemu", "fake"])
async def test_an_agent_is_reached_at_its_socket(tmp_path: Path, vmm: str) -> None:
    with channel.listening(tmp_path / "agent.sock") as listener, await channel.to_agent(vmm, tmp_path)():
        listener.accept()[0].close()
    with pytest.raises(ConnectionRefusedError):
        await channel.to_agent(vmm, tmp_path)()


async def test_an_agent_under_firecracker_is_reached_through_its_vmm(tmp_path: Path) -> None:
    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"CONNECT 5000\n"
        writer.write(b"OK 1073741824\nhello")
        writer.close()

    async with asyncio.timeout(30), await asyncio.start_unix_server(session, tmp_path / "v.sock"):
        with await channel.to_agent("firecracker", tmp_path)() as connection:
            assert await asyncio.get_running_loop().sock_recv(connection, 100) == b"hello"
    with pytest.raises(FileNotFoundError):
        await channel.to_agent("firecracker", tmp_path / "elsewhere")()
