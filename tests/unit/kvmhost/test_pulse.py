"""Which processor is not heard any more."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from tests.kvmhost.host import pulse


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


async def nothing(_silent: int) -> None:
    """Wakes nobody."""


async def test_one_of_two_that_stands_still_is_found(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends

    async def beat() -> None:
        while True:
            theirs.send(bytes([0, 7]))  # 7 is nobody
            await asyncio.sleep(0.01)

    beating = asyncio.create_task(beat())
    assert await pulse.stopped(ours, 2, 1.0, nothing) == 1
    beating.cancel()


async def test_the_end_of_the_machine_is_no_standstill(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    theirs.send(bytes([0]))
    theirs.close()
    assert await pulse.stopped(ours, 2, 60, nothing) is None


async def test_one_that_is_woken_goes_on(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    woken: list[int] = []

    async def wake(silent: int) -> None:
        woken.append(silent)
        theirs.send(bytes([silent]))
        if len(woken) == 3:
            theirs.close()

    theirs.send(bytes([0]))
    assert await pulse.stopped(ours, 1, 30, wake, pause_seconds=0.1) is None
    assert woken == [0, 0, 0]


async def test_one_that_was_not_heard_yet_is_not_woken(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    theirs.send(bytes([0]))
    woken: list[int] = []

    async def wake(silent: int) -> None:
        woken.append(silent)

    assert await pulse.stopped(ours, 2, 0.5, wake, pause_seconds=0.1) == 1
    assert woken == []
