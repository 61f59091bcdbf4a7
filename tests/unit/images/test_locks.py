import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyro_mcp.images import locks

HOLD = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(fd, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def other_process_holding(path: Path) -> "subprocess.Popen[bytes]":
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    return other


async def test_a_lock_of_another_process_is_waited_for(tmp_path: Path) -> None:
    path, waiting = tmp_path / "lock", asyncio.Event()
    with other_process_holding(path) as other:

        async def take() -> bool:
            async with locks.for_long(path, waiting.set) as waited:
                return waited

        task = asyncio.create_task(take())
        await waiting.wait()
        assert not task.done()
        other.communicate()
        assert await task is True


async def test_a_lock_that_is_free_is_not_waited_for(tmp_path: Path) -> None:
    async with locks.for_long(tmp_path / "lock", lambda: pytest.fail("waited")) as waited:
        assert waited is False


async def test_waiting_can_be_cancelled_and_leaves_no_lock(tmp_path: Path) -> None:
    path, waiting = tmp_path / "lock", asyncio.Event()
    with other_process_holding(path) as other:

        async def take() -> None:
            async with locks.for_long(path, waiting.set):
                pytest.fail("the lock was taken")

        task = asyncio.create_task(take())
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        other.kill()
        other.communicate()
    async with locks.for_long(path, lambda: pytest.fail("a waiter that was cancelled holds the lock")) as waited:
        assert not waited


def test_readers_share_and_keep_writers_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    first, second, third = (os.open(tmp_path / "file", os.O_RDONLY) for _ in range(3))
    try:
        assert locks.try_lock(first, shared=True)
        assert locks.try_lock(second, shared=True)
        assert not locks.try_lock(third)
    finally:
        for fd in (first, second, third):
            os.close(fd)


def test_the_brief_lock_is_held_inside_and_free_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locks.briefly(path):
        fd = os.open(path, os.O_RDONLY)
        assert not locks.try_lock(fd)
    assert locks.try_lock(fd)
    os.close(fd)
