"""How a session with an agent begins, is given up, and ends."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest

from pyro_mcp.errors import GuestFailed
from pyro_mcp.guest import client as client_module
from pyro_mcp.guest.client import GuestClient, connect, reconnect
from pyro_mcp.guest.preamble import GENERATION
from pyro_mcp.unix_path import connect_to
from tests.support import fake_agent
from tests.support.client_session import saying, session
from tests.support.fake_agent import (
    FakeAgent,
    channel,
    message,
    opened,
    wire_over,
)
from tests.support.fake_commands import FakeGuest, listening
from tests.support.wire import Wire


async def test_an_agent_that_says_nothing_is_given_up_in_time() -> None:
    with channel() as (ours, _):
        with pytest.raises(GuestFailed) as caught:
            async with connect(opened(ours), timeout_seconds=0.05):
                raise AssertionError("there is nobody")
        assert caught.value.code == "guest_silent"
        await asyncio.sleep(0)
        assert ours.fileno() == -1


async def test_an_agent_that_says_only_rubbish_is_given_up() -> None:
    with channel() as (ours, theirs):
        async with wire_over(theirs) as wire:
            wire.writer.write(b"login: " * 1000)
            with pytest.raises(GuestFailed) as caught:
                async with connect(opened(ours), timeout_seconds=0.05):
                    raise AssertionError("there is nobody")
    assert caught.value.code == "guest_silent"


async def test_a_guest_that_ends_before_its_agent_answers() -> None:
    with channel() as (ours, theirs):
        theirs.close()
        with pytest.raises(GuestFailed) as caught:
            async with connect(opened(ours), timeout_seconds=30):
                raise AssertionError("there is nobody")
    assert caught.value.code == "guest_gone"


async def test_an_agent_of_another_generation_is_refused() -> None:
    with channel() as (ours, theirs):
        async with wire_over(theirs) as wire:

            async def answer() -> None:
                _, nonce, _ = await fake_agent.read_packet(wire.reader)
                wire.writer.write(fake_agent.reply(nonce, generation=GENERATION + 1))

            answering = asyncio.create_task(answer())
            with pytest.raises(GuestFailed) as caught:
                async with connect(opened(ours), timeout_seconds=30):
                    raise AssertionError("it must not be spoken to")
            await answering
    assert caught.value.code == "guest_generation"


async def test_a_socket_with_a_long_path_is_reached(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    short = tmp_path / "s"
    short.symlink_to(folder)
    async with listening(short / "agent.sock", FakeGuest(tmp_path)):
        async with reconnect(partial(connect_to, folder / "agent.sock"), timeout_seconds=30) as client:
            await client.ping()
        async with reconnect(partial(connect_to, folder / "agent.sock"), timeout_seconds=30) as client:
            await client.ping()
        assert client.closed.is_set()


async def test_an_agent_that_misses_a_hello_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one does that takes it for the rest of a frame that a dead daemon cut short."""
    monkeypatch.setattr(client_module, "_HELLO_SECONDS", 0.05)
    connections = 0
    done = asyncio.Event()

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        match connections:
            case 1:
                with contextlib.suppress(ConnectionError):
                    await reader.read()  # to the end, without a word
            case 2:
                writer.write(b"rubbish")
            case _:
                await FakeAgent(Wire(reader, writer), FakeGuest(tmp_path)).serve()
                done.set()
        writer.transport.abort()

    server = await asyncio.start_unix_server(session, tmp_path / "sock")
    async with server, reconnect(partial(connect_to, tmp_path / "sock"), timeout_seconds=30) as client:
        await client.ping()
    await done.wait()
    assert connections == 3


async def test_an_agent_that_never_answers_is_given_up(tmp_path: Path) -> None:
    left = asyncio.Event()

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.transport.abort()
        left.set()

    async with await asyncio.start_unix_server(session, tmp_path / "sock"):
        with pytest.raises(GuestFailed) as caught:
            async with reconnect(partial(connect_to, tmp_path / "sock"), timeout_seconds=0.1):
                raise AssertionError("there is nobody")
        await left.wait()
    assert caught.value.code == "guest_silent"


@pytest.mark.parametrize("there", [True, False])
async def test_a_machine_that_is_gone_is_not_waited_for(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "agent.sock"
    if there:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
    with pytest.raises(GuestFailed) as caught:
        async with reconnect(partial(connect_to, path), timeout_seconds=30):
            raise AssertionError("there is nobody")
    assert caught.value.code == "guest_gone"


class Openings:
    """A channel whose first openings fail, one for each error given."""

    def __init__(self, path: Path, *errors: OSError) -> None:
        self.tried = 0
        self._path = path
        self._errors = list(errors)

    async def __call__(self) -> socket.socket:
        self.tried += 1
        if self._errors:
            raise self._errors.pop(0)
        return await connect_to(self._path)


async def test_a_channel_that_is_hung_up_on_is_opened_again(tmp_path: Path) -> None:
    """As one is by a VMM whose guest has no agent at that moment."""
    openings = Openings(tmp_path / "sock", ConnectionResetError("no agent"), ConnectionResetError("no agent"))
    async with listening(tmp_path / "sock", FakeGuest(tmp_path)), reconnect(openings, timeout_seconds=30) as client:
        await client.ping()
    assert openings.tried == 3


@pytest.mark.parametrize("error", [ConnectionRefusedError("none"), FileNotFoundError("none"), OSError("none")])
@pytest.mark.parametrize("way", [connect, reconnect])
async def test_a_channel_that_nobody_will_ever_answer_is_not_tried_again(
    tmp_path: Path, way: Callable[..., AbstractAsyncContextManager[GuestClient]], error: OSError
) -> None:
    openings = Openings(tmp_path / "sock", error)
    with pytest.raises(GuestFailed) as caught:
        async with way(openings, timeout_seconds=30):
            raise AssertionError("there is nobody")
    assert caught.value.code == "guest_gone"
    assert openings.tried == 1


async def test_a_channel_that_can_be_opened_once_is_not_tried_again(tmp_path: Path) -> None:
    openings = Openings(tmp_path / "sock", ConnectionResetError("no agent"))
    with pytest.raises(GuestFailed) as caught:
        async with connect(openings, timeout_seconds=30):
            raise AssertionError("there is nobody")
    assert caught.value.code == "guest_gone"
    assert openings.tried == 1


@pytest.mark.parametrize("way", [connect, reconnect])
async def test_a_channel_that_never_opens_is_given_up_in_time(
    way: Callable[..., AbstractAsyncContextManager[GuestClient]],
) -> None:
    given_up = asyncio.Event()

    async def wait() -> socket.socket:
        try:
            return await asyncio.Future[socket.socket]()
        finally:
            given_up.set()

    with pytest.raises(GuestFailed) as caught:
        async with way(wait, timeout_seconds=0.05):
            raise AssertionError("there is nobody")
    assert caught.value.code == "guest_silent"
    assert given_up.is_set()


async def test_the_time_that_a_channel_takes_to_open_is_part_of_the_guests() -> None:
    """A boot may take so long, however much of it went by before the channel was open."""
    loop = asyncio.get_running_loop()
    with channel() as (ours, _):

        async def slowly() -> socket.socket:
            await asyncio.sleep(0.4)
            return ours

        began = loop.time()
        with pytest.raises(GuestFailed) as caught:
            async with connect(slowly, timeout_seconds=0.5):
                raise AssertionError("there is nobody")
        assert caught.value.code == "guest_silent"
        assert loop.time() - began < 0.85


async def test_leaving_the_session_closes_the_channel_and_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    async with session(saying(message(type="pong"))) as (client, agent):
        await client.ping()
        alive = client.session.ended is None
    assert alive
    assert client.session.ended == "the guest went away: the session was closed"
    assert agent.wire.writer.transport.is_closing()
    assert asyncio.all_tasks() == before


async def test_a_failure_inside_the_session_is_not_hidden_by_its_end() -> None:
    async def fail() -> None:
        async with session(saying()) as (_, agent):
            await agent.wire.close()
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await fail()
