import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from pyro_mcp.doctor.report import Row, Status, passed
from pyro_mcp.doctor.run import Check, run_checks


def check(name: str, before: Callable[[], Awaitable[object]] | None = None, seconds: float = 30.0) -> Check:
    async def examine() -> Row:
        if before is not None:
            await before()
        return passed(name, "seen")

    return Check(name, examine, seconds)


async def test_all_run_at_once_and_are_told_in_order() -> None:
    barrier, told = asyncio.Barrier(3), list[Row]()
    report = await run_checks([check(name, barrier.wait) for name in "abc"], told.append)
    assert [row.name for row in told] == ["a", "b", "c"]
    assert report.rows == tuple(told)
    assert report.ok


async def test_only_as_many_heavy_checks_run_at_once_as_there_are_processors_and_the_others_wait_for_none() -> None:
    running, most, others = 0, 0, asyncio.Event()

    async def work() -> None:
        nonlocal running, most
        running, most = running + 1, max(most, running + 1)
        await others.wait()
        running -= 1

    async def let_go() -> None:
        others.set()

    heavy = [replace(check(name, work), heavy=True) for name in "abcd"]
    report = await run_checks([*heavy, check("light", let_go)], lambda _: None, processors=2)
    assert report.ok
    assert most == 2


async def test_waiting_for_a_processor_takes_nothing_of_a_checks_time() -> None:
    first = replace(check("first", lambda: asyncio.sleep(0.3)), heavy=True)
    second = replace(check("second", seconds=0.2), heavy=True)
    assert (await run_checks([first, second], lambda _: None, processors=1)).ok


async def test_a_row_is_told_before_later_ones_are_known() -> None:
    told = asyncio.Event()

    def tell(row: Row) -> None:
        told.set()

    # The second check ends only once the first one's row was told.
    report = await run_checks([check("first"), check("second", told.wait)], tell)
    assert [row.status for row in report.rows] == [Status.PASS, Status.PASS]


async def test_a_check_that_breaks_is_a_row_and_harms_no_other() -> None:
    async def breaks() -> None:
        raise ZeroDivisionError("by nought")

    report = await run_checks([check("bad", breaks), check("good")], lambda _: None)
    bad, good = report.rows
    assert bad.status is Status.FAIL
    assert "ZeroDivisionError: by nought" in bad.found
    assert bad.mend is not None
    assert good.status is Status.PASS
    assert not report.ok


async def test_a_check_that_hangs_is_a_row() -> None:
    report = await run_checks([check("slow", asyncio.Event().wait, 0.05), check("good")], lambda _: None)
    assert [row.status for row in report.rows] == [Status.FAIL, Status.PASS]
    assert "within 0.05 s" in report.rows[0].found


async def test_cancelling_ends_every_check_after_its_cleaning_up() -> None:
    started, cleaned = asyncio.Barrier(3), list[str]()

    def hanging(name: str) -> Check:
        async def wait() -> None:
            try:
                await started.wait()
                await asyncio.Event().wait()
            finally:
                await asyncio.shield(asyncio.to_thread(cleaned.append, name))

        return check(name, wait)

    running = asyncio.create_task(run_checks([hanging("a"), hanging("b")], lambda _: None))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert sorted(cleaned) == ["a", "b"]


async def test_a_reader_that_goes_away_ends_the_examination() -> None:
    def gone(_: Row) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        await run_checks([check("a"), check("b", asyncio.Event().wait)], gone)
