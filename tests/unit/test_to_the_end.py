import asyncio

import pytest

from pyro_mcp.to_the_end import to_the_end


async def test_a_result_and_an_error_come_through() -> None:
    async def answer() -> int:
        return 42

    async def fail() -> int:
        raise ValueError("no")

    assert await to_the_end(answer()) == 42
    with pytest.raises(ValueError, match="no"):
        await to_the_end(fail())


async def test_however_often_it_is_cancelled_the_work_ends_first() -> None:
    go_on, ended, undone = asyncio.Event(), asyncio.Event(), list[str]()

    async def work() -> str:
        await go_on.wait()
        ended.set()
        return "made"

    task = asyncio.create_task(to_the_end(work(), undone.append))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
    assert undone == ["made"]


async def test_a_cancelled_failure_undoes_nothing() -> None:
    go_on, undone = asyncio.Event(), list[str]()

    async def work() -> str:
        await go_on.wait()
        raise ValueError("no")

    task = asyncio.create_task(to_the_end(work(), undone.append))
    await asyncio.sleep(0)
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert undone == []
