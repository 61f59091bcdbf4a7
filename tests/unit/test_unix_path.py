"""Connecting to sockets by paths of any length, and to listeners that have much to do."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from pyro_mcp.unix_path import connect_to
from tests.support.descriptors import none_left


async def test_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))
        connecting = asyncio.create_task(connect_to(path))
        await asyncio.sleep(0)
        assert not connecting.done()
        listener.accept()[0].close()
        (await connecting).close()


async def test_one_who_stops_waiting_for_it_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))
        with none_left(), pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await connect_to(path)


async def test_a_path_may_be_longer_than_an_address(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    inside = os.open(folder, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{inside}/sock")
        listener.listen()
        with await connect_to(folder / "sock") as connection:
            assert not connection.getblocking()
            accepted, _ = listener.accept()
            with accepted:
                accepted.sendall(b"hello")
            assert await asyncio.get_running_loop().sock_recv(connection, 5) == b"hello"
    os.close(inside)


@pytest.mark.parametrize("missing", ["socket", "folder", "listener"])
async def test_where_nobody_listens_it_is_said(tmp_path: Path, missing: str) -> None:
    path = tmp_path / "sock" if missing != "folder" else tmp_path / "none" / "sock"
    if missing == "listener":
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
    with none_left(), pytest.raises(ConnectionRefusedError if missing == "listener" else FileNotFoundError):
        await connect_to(path)


def _listening(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


async def test_a_link_is_refused_wherever_it_leads(tmp_path: Path) -> None:
    """Whoever may write into the folder could lead us to anybody's socket with it."""
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "none")
    with none_left(), pytest.raises(ConnectionRefusedError):
        await connect_to(link)
    with _listening(tmp_path / "sock") as listener:
        listener.setblocking(False)
        link.unlink()
        link.symlink_to(tmp_path / "sock")
        with none_left(), pytest.raises(ConnectionRefusedError):
            await connect_to(link)
        with pytest.raises(BlockingIOError):
            listener.accept()
        (await connect_to(tmp_path / "sock")).close()


async def test_a_link_above_it_is_followed(tmp_path: Path) -> None:
    """As where PYRO_HOME is one: only the name itself is anybody else's."""
    (tmp_path / "real").mkdir()
    (tmp_path / "home").symlink_to("real")
    with _listening(tmp_path / "real" / "sock"):
        (await connect_to(tmp_path / "home" / "sock")).close()


@pytest.mark.parametrize("what", ["file", "folder", "fifo", "device"])
async def test_what_is_no_socket_is_refused_and_not_opened(tmp_path: Path, what: str) -> None:
    path = tmp_path / "sock"
    match what:
        case "file":
            path.touch()
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)  # to open one waits for another
        case _:
            path = Path("/dev/null")
    with none_left():
        async with asyncio.timeout(30):
            with pytest.raises(ConnectionRefusedError, match="no socket"):
                await connect_to(path)
