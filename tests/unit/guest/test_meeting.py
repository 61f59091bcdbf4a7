"""Finding out that an agent answers, without beginning a session with it."""

import asyncio

import pytest

from pyro_mcp.errors import GuestFailed
from pyro_mcp.guest.client import connect, meet, prepare
from pyro_mcp.guest.identity import OF_ANY_THROWAWAY, Identity
from pyro_mcp.guest.preamble import GENERATION
from tests.support.fake_agent import channel, opened, packet, read_packet, reply, wire_over
from tests.support.fake_machine import dead, silent, waiting

IDENTITY = Identity("w-1", "0" * 32, workspace=True, seed=True)


async def test_who_is_met_is_told_nothing() -> None:
    with channel() as (ours, theirs):
        async with asyncio.timeout(30), wire_over(theirs) as wire:
            meeting = asyncio.create_task(meet(opened(ours), timeout_seconds=30))
            _, nonce, _ = await read_packet(wire.reader)
            wire.writer.write(reply(nonce, boot_id=None))
            hello = await meeting
            rest = await wire.reader.read()
    assert (hello.generation, hello.boot_id) == (GENERATION, None)
    assert b"PYROS" not in rest, "a session was begun"
    assert ours.fileno() == -1


async def test_who_is_met_to_prepare_prepares() -> None:
    with channel() as (ours, theirs):
        async with asyncio.timeout(30), wire_over(theirs) as wire:
            meeting = asyncio.create_task(meet(opened(ours), timeout_seconds=30, prepared_for=OF_ANY_THROWAWAY))
            _, nonce, _ = await read_packet(wire.reader)
            wire.writer.write(reply(nonce, boot_id=None))
            kind, _, told = await read_packet(wire.reader)
            assert (kind, told["machine"]["host_name"]) == (b"P", "localhost")
            wire.writer.write(packet(b"D", nonce, {}))
            await meeting
            assert await wire.reader.read() == b""


@pytest.mark.parametrize(("guest", "code"), [(silent, "guest_silent"), (dead, "guest_gone")])
async def test_who_does_not_answer_is_told(guest: object, code: str) -> None:
    with channel() as (ours, theirs):
        running = asyncio.ensure_future(guest(theirs))  # type: ignore[operator]
        with pytest.raises(GuestFailed) as caught:
            await meet(opened(ours), timeout_seconds=0.05)
        running.cancel()
    assert caught.value.code == code


async def test_a_guest_that_waits_becomes_the_machine_of_its_first_session() -> None:
    told: list[dict[str, dict[str, object]]] = []
    with channel() as (ours, theirs):
        running = asyncio.ensure_future(waiting(told)(theirs))
        async with asyncio.timeout(30), connect(opened(ours), timeout_seconds=30, identity=IDENTITY):
            pass
        running.cancel()
    machine = told[0]["machine"]
    assert (machine["host_name"], machine["machine_id"]) == ("w-1", "0" * 32)
    assert (machine["workspace"], machine["seed"]) == (True, True)


async def test_a_guest_that_waits_is_no_machine_of_nobody() -> None:
    with channel() as (ours, theirs):
        running = asyncio.ensure_future(waiting([])(theirs))
        with pytest.raises(GuestFailed) as caught:
            async with connect(opened(ours), timeout_seconds=30):
                raise AssertionError("a session was begun")
        running.cancel()
    assert caught.value.code == "guest_waits"


async def test_a_guest_that_waits_prepares_for_its_machine_and_waits_on() -> None:
    with channel() as (ours, theirs):
        async with asyncio.timeout(30), wire_over(theirs) as wire:
            preparing = asyncio.create_task(prepare(opened(ours), IDENTITY, timeout_seconds=30))
            _, nonce, _ = await read_packet(wire.reader)
            wire.writer.write(reply(nonce, boot_id=None))
            kind, same, told = await read_packet(wire.reader)
            assert (kind, same, told["machine"]["host_name"]) == (b"P", nonce, "w-1")
            assert not preparing.done()
            wire.writer.write(packet(b"D", nonce, {}))
            await preparing
            assert await wire.reader.read() == b""
    assert ours.fileno() == -1


async def test_a_guest_that_is_a_machine_prepares_for_none() -> None:
    with channel() as (ours, theirs):
        async with asyncio.timeout(30), wire_over(theirs) as wire:
            preparing = asyncio.create_task(prepare(opened(ours), IDENTITY, timeout_seconds=30))
            _, nonce, _ = await read_packet(wire.reader)
            wire.writer.write(reply(nonce))
            with pytest.raises(GuestFailed) as caught:
                await preparing
    assert caught.value.code == "guest_begun"
