"""A guest that has stopped for good is told from one that lives, is overloaded, or is held, by real processes."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from pyro_mcp.process_watch import Detached, start_time
from pyro_mcp.vmm.processor_time import wanted_seconds
from pyro_mcp.workspace.heartbeat import Heartbeat
from tests.support.fake_commands import FakeGuest
from tests.support.live_guest import live_guest
from tests.support.waiting import until

BEAT = 0.2
IDLE = ("sleep", "60")
BUSY = ("sh", "-c", "while :; do :; done")
BUSY_BELOW = ("sh", "-c", "sh -c 'while :; do :; done'; true")


@contextmanager
def running(*words: str) -> Iterator[Detached]:
    """A process in place of a VMM, which stands in its own process group."""
    with subprocess.Popen(words, start_new_session=True) as process:
        began = start_time(process.pid)
        assert began is not None
        try:
            yield Detached(process.pid, began)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@asynccontextmanager
async def watched(
    folder: Path, *vmm: str, answers: bool = False, busy: bool = False
) -> AsyncIterator[tuple[Heartbeat, FakeGuest, Detached, asyncio.Event]]:
    """A heartbeat, the guest and the process that it watches, and what is set when the guest is found halted."""
    halted = asyncio.Event()
    async with live_guest(folder) as (guest, client):
        if not answers:
            guest.deaf.add("ping")
        with running(*vmm) as process:
            heartbeat = Heartbeat(client, process, busy=lambda: busy, on_halt=halted.set, beat_seconds=BEAT)
            yield heartbeat, guest, process, halted
            await heartbeat.end()


def pings(guest: FakeGuest) -> int:
    """How often it was asked for a sign of life."""
    return len(guest.asked("ping"))


async def test_one_that_neither_answers_nor_does_anything_has_halted(tmp_path: Path) -> None:
    async with watched(tmp_path, *IDLE) as (heartbeat, _, _, halted):
        with heartbeat.used():
            await asyncio.wait_for(halted.wait(), 10)


async def test_so_has_one_that_only_a_command_needs_which_nobody_waits_for(tmp_path: Path) -> None:
    async with watched(tmp_path, *IDLE, busy=True) as (heartbeat, _, _, halted):
        heartbeat.begin()
        await asyncio.wait_for(halted.wait(), 10)


@pytest.mark.parametrize("vmm", [BUSY, BUSY_BELOW])
async def test_one_that_is_too_busy_to_answer_is_left_alone(tmp_path: Path, vmm: tuple[str, ...]) -> None:
    async with watched(tmp_path, *vmm) as (heartbeat, guest, _, halted):
        with heartbeat.used():
            await until(lambda: pings(guest) >= 4)
    assert not halted.is_set()


async def test_one_that_answers_is_left_alone(tmp_path: Path) -> None:
    async with watched(tmp_path, *IDLE, answers=True) as (heartbeat, guest, _, halted):
        with heartbeat.used():
            await until(lambda: pings(guest) >= 4)
    assert not halted.is_set()


async def test_one_late_answer_is_no_end(tmp_path: Path) -> None:
    """This process may have been held itself meanwhile."""
    async with watched(tmp_path, *IDLE) as (heartbeat, guest, _, halted):
        with heartbeat.used():
            await until(lambda: pings(guest) == 1)
            guest.deaf.clear()
            await until(lambda: pings(guest) >= 4)
    assert not halted.is_set()


async def test_one_that_is_held_by_a_signal_is_left_alone(tmp_path: Path) -> None:
    async with watched(tmp_path, *IDLE) as (heartbeat, guest, process, halted):
        os.kill(process.pid, signal.SIGSTOP)
        with heartbeat.used():
            await until(lambda: pings(guest) >= 4)
    assert not halted.is_set()


async def test_nobody_asks_one_that_is_not_used(tmp_path: Path) -> None:
    async with watched(tmp_path, *IDLE) as (heartbeat, guest, _, halted):
        with heartbeat.used():
            pass
        await asyncio.sleep(4 * BEAT)
        assert pings(guest) == 0
        with heartbeat.used():  # and it is watched again as soon as it is
            await asyncio.wait_for(halted.wait(), 10)


def test_a_process_that_has_ended_tells_nothing() -> None:
    with running(*IDLE) as process:
        before = wanted_seconds(process)
        assert before is not None
        assert before < 1
    assert wanted_seconds(process) is None
    assert wanted_seconds(Detached(os.getpid(), 1)) is None
