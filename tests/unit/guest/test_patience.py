"""Whose time counts."""

import asyncio

import pytest

from pyro_mcp.guest.patience import Patience

SECONDS = 1000.0


async def test_only_the_guests_time_counts() -> None:
    patience = Patience(SECONDS)
    async with patience.limit:
        assert patience.limit.when() is not None
        with patience.ours():
            assert patience.limit.when() is None
            with patience.ours():
                patience.moved()
            assert patience.limit.when() is None  # one of two still takes its time
        assert patience.limit.when() is not None


@pytest.mark.parametrize("ours", [False, True])
async def test_the_time_begins_anew_when_something_moves(ours: bool) -> None:
    patience = Patience(SECONDS)
    async with patience.limit:
        patience.limit.reschedule(asyncio.get_running_loop().time() + 1)
        if ours:
            with patience.ours():
                pass
        else:
            patience.moved()
        assert (patience.limit.when() or 0) > asyncio.get_running_loop().time() + SECONDS / 2


async def test_after_the_end_nothing_counts() -> None:
    patience = Patience(SECONDS)
    async with patience.limit:
        patience.end()
        patience.moved()
        assert patience.limit.when() is None


async def test_what_moves_after_the_time_is_up_changes_nothing() -> None:
    patience = Patience(0.0)

    async def unwinding() -> None:
        async with patience.limit:
            try:
                await asyncio.Event().wait()
            finally:
                patience.moved()
                with patience.ours():
                    pass

    with pytest.raises(TimeoutError):
        await unwinding()
    assert patience.limit.expired()
