"""A daemon that nobody wants ends, and one that somebody wants does not."""

import asyncio

import pytest

from pyro_mcp.daemon.activity import Activity


async def test_a_daemon_that_nobody_asks_is_told_to_end() -> None:
    idle = asyncio.Event()
    Activity(idle.set, idle_seconds=0.01)
    async with asyncio.timeout(30):
        await idle.wait()


async def test_a_request_under_way_keeps_it_alive_however_long() -> None:
    idle = asyncio.Event()
    activity = Activity(idle.set, idle_seconds=0.01)
    with activity.request():
        await asyncio.sleep(0.05)
        assert not idle.is_set()
        assert activity.active == 1
    async with asyncio.timeout(30):
        await idle.wait()


async def test_the_last_of_several_requests_counts() -> None:
    idle = asyncio.Event()
    activity = Activity(idle.set, idle_seconds=0.01)
    with activity.request():
        with activity.request():
            assert activity.active == 2
        await asyncio.sleep(0.05)
        assert not idle.is_set()
    assert activity.active == 0


async def test_every_request_starts_the_wait_anew() -> None:
    loop = asyncio.get_running_loop()
    idle_at: asyncio.Future[float] = loop.create_future()
    activity = Activity(lambda: idle_at.set_result(loop.time()), idle_seconds=0.1)
    await asyncio.sleep(0.05)
    with activity.request():
        pass
    ended = loop.time()
    assert await asyncio.wait_for(idle_at, 30) >= ended + 0.1


async def test_a_request_that_fails_counts_as_ended() -> None:
    activity = Activity(lambda: None)
    with pytest.raises(KeyError), activity.request():
        raise KeyError
    assert activity.active == 0


async def test_a_request_that_is_about_to_end_does_not_count() -> None:
    activity = Activity(lambda: None)
    with activity.request():
        ending = activity.request()
        ending.__enter__()
        asking = asyncio.create_task(activity.alone(within_seconds=30))
        await asyncio.sleep(0)
        assert not asking.done()
        ending.__exit__(None, None, None)
        assert await asking


async def test_a_request_that_goes_on_counts() -> None:
    activity = Activity(lambda: None)
    with activity.request(), activity.request():
        assert not await activity.alone(within_seconds=0.01)


async def test_a_daemon_whose_machines_run_stays_until_they_do_not() -> None:
    idle = asyncio.Event()
    asked: list[bool] = []

    def is_wanted() -> bool:
        asked.append(len(asked) < 3)
        return asked[-1]

    Activity(idle.set, idle_seconds=0.01, is_wanted=is_wanted)
    async with asyncio.timeout(30):
        await idle.wait()
    assert asked == [True, True, True, False]
