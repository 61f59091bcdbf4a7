import asyncio
import threading

import pytest

from pyro_mcp.transfer.worker import in_thread


def nothing() -> None:
    pass


async def test_what_the_thread_returns_and_raises_arrives() -> None:
    assert await in_thread(threading.current_thread, nothing) is not threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0, nothing)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await in_thread(lambda: next(iter(())), nothing)


async def test_cancelling_unblocks_the_thread_and_waits_for_it() -> None:
    begun, end = threading.Event(), threading.Event()
    ended: list[str] = []

    def work() -> None:
        begun.set()
        end.wait()
        ended.append("yes")

    task = asyncio.create_task(in_thread(work, end.set))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["yes"]


async def test_an_error_after_a_cancellation_is_dropped() -> None:
    begun, end = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        end.wait()
        raise ValueError("too late")

    task = asyncio.create_task(in_thread(work, end.set))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
