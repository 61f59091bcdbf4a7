"""The handshake finds its packets among whatever else arrives, and never reads for ever."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_mcp.errors import GuestFailed, PyroError
from pyro_mcp.guest import preamble
from pyro_mcp.guest.identity import Identity
from pyro_mcp.guest.preamble import GENERATION, AgentHello, handshake, packet
from pyro_mcp.guest.violation import ProtocolViolation
from tests.support import fake_agent
from tests.support.fake_agent import BOOT_ID, channel, read_packet, reply, wire_over
from tests.support.wire import Wire

HELLO = AgentHello(GENERATION, "0.1.0", BOOT_ID)


@asynccontextmanager
async def greeting(identity: Identity | None = None) -> AsyncIterator[tuple["asyncio.Task[AgentHello]", Wire]]:
    """A handshake under way, and the agent's end of it."""
    with channel() as (ours, theirs):
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=1 << 20)
        async with wire_over(theirs) as wire:
            task = asyncio.create_task(handshake(reader, writer, identity))
            try:
                yield task, wire
            finally:
                task.cancel()
                await asyncio.wait((task,))
                writer.transport.abort()
                await asyncio.sleep(0)


async def _ended(task: "asyncio.Task[AgentHello]") -> AgentHello:
    async with asyncio.timeout(60):
        return await task


async def test_a_plain_handshake() -> None:
    async with greeting() as (task, wire):
        kind, nonce, hello = await read_packet(wire.reader)
        assert (kind, hello) == (b"H", {"generation": GENERATION})
        assert len(nonce) == 16
        wire.writer.write(reply(nonce))
        assert await read_packet(wire.reader) == (b"S", nonce, {})
        assert not task.done()
        wire.writer.write(fake_agent.packet(b"A", nonce, {}))
        assert await _ended(task) == HELLO


async def test_a_guest_that_waits_is_told_what_machine_it_is() -> None:
    async with greeting(Identity("pyro-1", "a1" * 16, workspace=True)) as (task, wire):
        _, nonce, _ = await read_packet(wire.reader)
        wire.writer.write(reply(nonce, boot_id=None))
        kind, _, start = await read_packet(wire.reader)
        machine = start["machine"]
        assert (kind, machine["host_name"], machine["machine_id"]) == (b"S", "pyro-1", "a1" * 16)
        assert (machine["workspace"], machine["seed"]) == (True, False)
        wire.writer.write(fake_agent.packet(b"A", nonce, {}))
        assert (await _ended(task)).boot_id is None


async def test_a_guest_that_knows_what_it_is_is_told_nothing() -> None:
    async with greeting(Identity("pyro-1", "a1" * 16)) as (_, wire):
        _, nonce, _ = await read_packet(wire.reader)
        wire.writer.write(reply(nonce))
        assert await read_packet(wire.reader) == (b"S", nonce, {})


async def test_a_guest_that_waits_for_another_cannot_be_used() -> None:
    async with greeting() as (task, wire):
        _, nonce, _ = await read_packet(wire.reader)
        wire.writer.write(reply(nonce, boot_id=None))
        with pytest.raises(GuestFailed) as caught:
            await _ended(task)
        assert caught.value.code == "guest_waits"


async def test_what_follows_the_handshake_is_left_for_the_multiplexer() -> None:
    with channel() as (ours, theirs):
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        async with wire_over(theirs) as wire:
            task = asyncio.create_task(handshake(reader, writer))
            _, nonce, _ = await read_packet(wire.reader)
            wire.writer.write(reply(nonce))
            await read_packet(wire.reader)
            wire.writer.write(fake_agent.packet(b"A", nonce, {}) + b"yamux")
            await _ended(task)
            assert await reader.readexactly(5) == b"yamux"
        writer.transport.abort()


async def test_every_handshake_has_a_nonce_of_its_own() -> None:
    nonces = set()
    for _ in range(3):
        async with greeting() as (_, wire):
            nonces.add((await read_packet(wire.reader))[1])
    assert len(nonces) == 3


async def test_hello_is_said_again_until_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preamble, "_RESEND_SECONDS", 0.01)
    async with greeting() as (task, wire):
        packets = [await read_packet(wire.reader) for _ in range(4)]
        assert len(set(map(repr, packets))) == 1
        nonce = packets[0][1]
        wire.writer.write(reply(nonce))
        while (await read_packet(wire.reader))[0] == b"H":
            pass
        wire.writer.write(fake_agent.packet(b"A", nonce, {}))
        assert await _ended(task) == HELLO
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await wire.reader.read(1)


def _stale(nonce: bytes) -> dict[str, bytes]:
    other = secrets.token_bytes(16)
    return {
        "nothing": b"",
        "text": b"[    0.000000] Linux version\r\n",
        "part of the magic": b"PY",
        "magics": b"PYROPYROPYRO",
        "the whole beginning but for the last byte": b"PYROR" + nonce[:-1],
        "a reply to another": reply(other),
        "a start of another": fake_agent.packet(b"A", other, {}),
        "our own hello come back": packet(b"H", nonce, {"generation": GENERATION}),
        "an oversized reply to another": b"PYROR" + other + b"\xff\xff\xff\xff",
        "zeros": bytes(100_000),
        "frames of a broken session": b"\0\0\0\0\0\0\0\1\0\0\x10\0" + b"x" * 4096,
    }


@pytest.mark.parametrize("name", _stale(bytes(16)))
async def test_stale_bytes_before_the_packets_are_dropped(name: str) -> None:
    async with greeting() as (task, wire):
        _, nonce, _ = await read_packet(wire.reader)
        stale = _stale(nonce)[name]
        wire.writer.write(stale + reply(nonce))
        assert (await read_packet(wire.reader))[0] == b"S"
        wire.writer.write(stale + fake_agent.packet(b"A", nonce, {}))
        assert await _ended(task) == HELLO


@given(st.binary(max_size=60), st.lists(st.integers(1, 40), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_packets_may_come_in_any_pieces_after_any_bytes(stale: bytes, sizes: list[int]) -> None:
    async def scenario() -> None:
        async with greeting() as (task, wire):
            _, nonce, _ = await read_packet(wire.reader)
            await _dribble(wire, stale + reply(nonce), sizes)
            await read_packet(wire.reader)
            await _dribble(wire, stale + fake_agent.packet(b"A", nonce, {}), sizes)
            assert await _ended(task) == HELLO

    asyncio.run(scenario())


async def _dribble(wire: Wire, data: bytes, sizes: list[int]) -> None:
    turn = 0
    while data:
        size = sizes[turn % len(sizes)]
        wire.writer.write(data[:size])
        data = data[size:]
        turn += 1
        await asyncio.sleep(0)


async def test_an_answer_to_every_hello_is_taken_once() -> None:
    async with greeting() as (task, wire):
        _, nonce, _ = await read_packet(wire.reader)
        wire.writer.write(reply(nonce) * 3)
        assert (await read_packet(wire.reader))[0] == b"S"
        wire.writer.write(reply(nonce) + fake_agent.packet(b"A", nonce, {}))
        assert await _ended(task) == HELLO


async def test_a_start_before_the_reply_does_not_count() -> None:
    async with greeting() as (task, wire):
        _, nonce, _ = await read_packet(wire.reader)
        wire.writer.write(fake_agent.packet(b"A", nonce, {}) + reply(nonce))
        assert (await read_packet(wire.reader))[0] == b"S"
        assert not task.done()
        wire.writer.write(fake_agent.packet(b"A", nonce, {}))
        assert await _ended(task) == HELLO


@pytest.mark.parametrize("generation", [0, GENERATION + 1, 99])
@pytest.mark.parametrize("more", [{}, {"since_then": True}])
async def test_another_generation_is_told_as_that(generation: int, more: dict[str, Any]) -> None:
    async with greeting() as (task, wire):
        _, nonce, _ = await read_packet(wire.reader)
        wire.writer.write(reply(nonce, generation=generation, **more))
        with pytest.raises(GuestFailed) as caught:
            await _ended(task)
        assert caught.value.code == "guest_generation"
        assert str(generation) in caught.value.message


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b"{",
        b"\xff",
        b"[" * 4096,
        b'{"generation": 4}',
        b'{"generation": "2", "agent_version": "0.1.0", "boot_id": "x"}',
        b'{"generation": true, "agent_version": "0.1.0", "boot_id": "x"}',
        b'{"generation": 4, "agent_version": 1, "boot_id": "x"}',
        b'{"generation": 4, "agent_version": "0.1.0", "boot_id": 1}',
        b'{"generation": 4, "agent_version": "0.1.0", "boot_id": "x", "more": 1}',
    ],
    ids=lambda payload: repr(payload[:30]),
)
async def test_a_reply_that_makes_no_sense_is_refused(payload: bytes) -> None:
    async with greeting() as (task, wire):
        _, nonce, _ = await read_packet(wire.reader)
        wire.writer.write(fake_agent.packet(b"R", nonce, payload))
        with pytest.raises(ProtocolViolation):
            await _ended(task)


@pytest.mark.parametrize("length", [4097, 2**31, 2**32 - 1])
async def test_an_oversized_reply_is_refused_before_it_arrives(length: int) -> None:
    async with greeting() as (task, wire):
        _, nonce, _ = await read_packet(wire.reader)
        wire.writer.write(b"PYROR" + nonce + length.to_bytes(4, "big"))
        with pytest.raises(ProtocolViolation):
            await _ended(task)


async def test_rubbish_for_ever_is_given_up() -> None:
    async with greeting() as (task, wire):
        sent = 0
        rubbish = b"PYRO" * 16384
        while not task.done() and sent < 64 << 20:
            wire.writer.write(rubbish)
            sent += len(rubbish)
            await asyncio.wait_for(_drained(wire), 60)
        with pytest.raises(ProtocolViolation):
            await _ended(task)


async def test_rubbish_does_not_keep_the_event_loop_from_others() -> None:
    """A megabyte of it is dropped in one piece, not byte by byte."""
    reader = asyncio.StreamReader(limit=1 << 20)
    nonce = secrets.token_bytes(16)
    reader.feed_data(bytes(2 << 20) + reply(nonce))
    began = time.thread_time()
    body = await preamble._find(reader, b"R", nonce)
    assert body == reply(nonce)[25:]
    # Byte by byte takes seconds.
    assert time.thread_time() - began < 0.3


async def _drained(wire: Wire) -> None:
    try:
        await wire.writer.drain()
    except ConnectionError:
        await asyncio.sleep(0)


@pytest.mark.parametrize("after", ["hello", "reply", "half a reply"])
async def test_an_agent_that_goes_away_ends_the_handshake(after: str) -> None:
    async with greeting() as (task, wire):
        _, nonce, _ = await read_packet(wire.reader)
        if after == "reply":
            wire.writer.write(reply(nonce))
            await read_packet(wire.reader)
        if after == "half a reply":
            wire.writer.write(reply(nonce)[:30])
        wire.writer.close()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await _ended(task)


async def test_a_handshake_that_is_given_up_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    async with greeting() as (task, wire):
        await read_packet(wire.reader)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert asyncio.all_tasks() == before


def test_a_violation_is_an_error_of_the_guest() -> None:
    error: PyroError = ProtocolViolation("it did")
    assert isinstance(error, GuestFailed)
    assert error.exit_code == 2
