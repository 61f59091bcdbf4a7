"""Reaching an agent through Firecracker's socket, with something else at the other end of it."""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from unittest.mock import AsyncMock

import pytest

import pyro_mcp
from pyro_mcp.vmm import channel, vsock
from tests.support.descriptors import none_left

AGENT = Path(pyro_mcp.__file__).parents[2] / "guest-agent/src/vsock.rs"
Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class FakeVmm:
    """Who has the socket: notes the first line of each connection, and whether the host has closed it."""

    def __init__(self, answering: Answering) -> None:
        self.asked: list[bytes] = []
        self.left = asyncio.Event()
        self._answering = answering

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.asked.append(await reader.readline())
            with contextlib.suppress(ConnectionError):
                await self._answering(reader, writer)
                while await reader.read(4096):
                    pass
        finally:
            self.left.set()
            writer.transport.abort()


@asynccontextmanager
async def vmm_in(folder: Path, answering: Answering) -> AsyncIterator[FakeVmm]:
    vmm = FakeVmm(answering)
    async with asyncio.timeout(30), await asyncio.start_unix_server(vmm, folder / vsock.SOCKET):
        yield vmm


def saying(*parts: bytes) -> Answering:
    """Answers with these bytes, one part after the other, and keeps the connection."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.001)

    return answer


async def received(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = await asyncio.get_running_loop().sock_recv(connection, count - len(data))
        assert more, "the connection ended"
        data += more
    return data


@pytest.mark.parametrize(
    "parts",
    [
        (b"OK 1073741824\nPYRO",),
        (b"OK 1073741824\n", b"PYRO"),
        tuple(bytes([byte]) for byte in b"OK 4294967295\nPYRO"),
        (b"OK 0\nPYRO",),
    ],
)
async def test_what_follows_the_answer_is_the_agents(tmp_path: Path, parts: tuple[bytes, ...]) -> None:
    """The agent may speak at once, and not a byte of it is taken for the VMM's."""
    async with vmm_in(tmp_path, saying(*parts)) as vmm:
        connection = await vsock.open_connection(tmp_path)
        with connection:
            assert await received(connection, 4) == b"PYRO"
        await vmm.left.wait()
    assert vmm.asked == [b"CONNECT 5000\n"]


async def test_both_sides_talk_once_it_is_open(tmp_path: Path) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"OK 1\n")
        writer.write((await reader.readexactly(5))[::-1])

    async with vmm_in(tmp_path, echo):
        with await vsock.open_connection(tmp_path) as connection:
            await asyncio.get_running_loop().sock_sendall(connection, b"hello")
            assert await received(connection, 5) == b"olleh"


@pytest.mark.parametrize(
    "answer",
    [
        b"NO\n",
        b"\n",
        b"OK\n",
        b"ok 1\n",
        b" OK 1\n",
        b"x" * 1000,
        b"OK " + b"1" * 1000,  # no port has so many digits
        b"OK " + b"1" * 29,  # as long as may be read, and no line
    ],
)
async def test_any_other_answer_is_a_refusal(tmp_path: Path, answer: bytes) -> None:
    with none_left():
        async with vmm_in(tmp_path, saying(answer)) as vmm:
            with pytest.raises(ConnectionResetError):
                await vsock.open_connection(tmp_path)
            await vmm.left.wait()
        await asyncio.sleep(0)


@pytest.mark.parametrize("said", [b"", b"OK", b"OK 12"])
async def test_a_guest_that_takes_no_connections(tmp_path: Path, said: bytes) -> None:
    """Firecracker hangs up where no agent listens."""

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.write_eof()

    async with vmm_in(tmp_path, hang_up):
        with pytest.raises(ConnectionResetError):
            await vsock.open_connection(tmp_path)


async def test_a_vmm_that_hangs_up_before_it_was_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one does that has too many connections, or dies at that moment."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.close()
    monkeypatch.setattr(vsock, "connect_to", AsyncMock(return_value=ours))
    with pytest.raises(ConnectionResetError):
        await vsock.open_connection(tmp_path)
    assert ours.fileno() == -1


async def test_a_vmm_that_dies_instead_of_answering(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / vsock.SOCKET))
        listener.listen()
        listener.setblocking(False)
        opening = asyncio.create_task(vsock.open_connection(tmp_path))
        vmm, _ = await loop.sock_accept(listener)
        await asyncio.to_thread(_wait_for_data, vmm)
        vmm.close()  # with the host's line unread, which resets the connection
        async with asyncio.timeout(30):
            with pytest.raises(ConnectionResetError):
                await opening


def _wait_for_data(connection: socket.socket) -> None:
    connection.settimeout(30)
    assert connection.recv(1, socket.MSG_PEEK)


async def test_nobody_listens_where_there_is_no_vmm(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await vsock.open_connection(tmp_path)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / vsock.SOCKET))
    with pytest.raises(ConnectionRefusedError):
        await vsock.open_connection(tmp_path)


async def test_a_link_leads_to_no_other_vmm(tmp_path: Path) -> None:
    """Whoever has taken a VMM over may put one in its place, to another workspace's guest or to the daemon itself."""
    mine, another = tmp_path / "mine", tmp_path / "another"
    mine.mkdir()
    another.mkdir()
    (mine / vsock.SOCKET).symlink_to(another / vsock.SOCKET)
    async with vmm_in(another, saying(b"OK 1\n")) as vmm:
        for open_channel in (partial(vsock.open_connection, mine), channel.to_agent("firecracker", mine)):
            with pytest.raises(ConnectionRefusedError):
                await open_channel()
        (await vsock.open_connection(another)).close()
        await vmm.left.wait()
    assert vmm.asked == [b"CONNECT 5000\n"]


async def test_whoever_stops_waiting_for_an_answer_leaves_nothing(tmp_path: Path) -> None:
    """Firecracker answers nothing at all while its guest has no driver yet."""
    with none_left():
        async with vmm_in(tmp_path, saying()) as vmm:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await vsock.open_connection(tmp_path)
            await vmm.left.wait()
        await asyncio.sleep(0)


async def test_a_folder_with_a_long_path(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    short = tmp_path / "s"
    short.symlink_to(folder)
    async with vmm_in(short, saying(b"OK 1\n")):
        (await vsock.open_connection(folder)).close()


async def test_a_knock_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / vsock.KNOCK_SOCKET
    with channel.listening(path) as listener:
        waiting = asyncio.create_task(vsock.wait_for_knock(listener))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        with socket.socket(socket.AF_UNIX) as guest:
            guest.connect(str(path))
            async with asyncio.timeout(30):
                await waiting
            assert guest.recv(1) == b"", "the knock is held open"


async def test_one_who_stops_waiting_leaves_the_knock_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / vsock.KNOCK_SOCKET
    with channel.listening(path) as listener:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await vsock.wait_for_knock(listener)
        with socket.socket(socket.AF_UNIX) as guest:
            guest.connect(str(path))
            async with asyncio.timeout(30):
                await vsock.wait_for_knock(listener)


def test_agent_and_host_mean_the_same_ports() -> None:
    ports = dict(re.findall(r"const (\w+_PORT): u32 = (\d+);", AGENT.read_text()))
    assert ports == {"AGENT_PORT": str(vsock._AGENT_PORT), "KNOCK_PORT": str(vsock._KNOCK_PORT)}
    assert f"v.sock_{vsock._KNOCK_PORT}" == vsock.KNOCK_SOCKET
