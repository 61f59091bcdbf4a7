"""Pipes between threads and the event loop."""

import asyncio
import os
from collections.abc import Iterator
from typing import BinaryIO

import pytest

from pyro_mcp.workspace.transfer_pipes import consumed, produced
from tests.support.descriptors import none_left


@pytest.fixture(autouse=True)
def no_descriptor_is_lost() -> Iterator[None]:
    with none_left():
        yield


def nothing() -> None:
    pass


async def test_what_a_thread_writes_comes_in_order() -> None:
    data = os.urandom(5_000_000)

    def fill(fd: int) -> None:
        for start in range(0, len(data), 70_000):
            rest = data[start : start + 70_000]
            while rest:
                rest = rest[os.write(fd, rest) :]

    async with produced(fill, nothing) as stream:
        assert b"".join([chunk async for chunk in stream]) == data


async def test_what_a_thread_raises_comes_after_what_it_wrote() -> None:
    def fill(fd: int) -> None:
        os.write(fd, b"first")
        raise ValueError("then this")

    async with produced(fill, nothing) as stream:
        assert await anext(stream) == b"first"
        with pytest.raises(ValueError, match="then this"):
            await anext(stream)


async def test_leaving_at_once_or_in_the_middle_stops_the_thread() -> None:
    stopped: list[str] = []
    ends: list[type[BaseException]] = []

    def fill(fd: int) -> None:
        try:
            while True:
                os.write(fd, bytes(100_000))
        except BaseException as error:
            ends.append(type(error))
            raise

    for read in (0, 1):
        async with produced(fill, lambda: stopped.append("yes")) as stream:
            for _ in range(read):
                await anext(stream)
        await stream.aclose()
    assert ends == [BrokenPipeError] * 2
    assert len(stopped) >= 2


async def test_a_thread_gets_what_is_fed_to_it() -> None:
    data = os.urandom(5_000_000)
    got: list[bytes] = []

    def take(source: BinaryIO) -> None:
        while chunk := source.read(100_000):
            got.append(chunk)

    async with consumed(take, nothing) as consumer:
        for start in range(0, len(data), 1_000_000):
            await consumer.feed(data[start : start + 1_000_000])
        await consumer.finish()
    assert b"".join(got) == data


async def test_a_thread_that_fails_tells_the_feeder() -> None:
    def take(source: BinaryIO) -> None:
        source.read(10)
        raise ValueError("no more")

    async with consumed(take, nothing) as consumer:
        with pytest.raises(ValueError, match="no more"):
            await consumer.feed(bytes(50_000_000))


async def test_leaving_ends_a_thread_that_waits_for_more() -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def take(source: BinaryIO) -> None:
        assert source.read(10) == b"few"
        loop.call_soon_threadsafe(ended.set)

    async with consumed(take, nothing) as consumer:
        await consumer.feed(b"few")
    await ended.wait()
