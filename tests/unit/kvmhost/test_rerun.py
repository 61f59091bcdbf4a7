"""A machine whose kernel stands still is no result; two are a failure."""

import pytest

from tests.kvmhost.host import rerun
from tests.kvmhost.host.machine import Ending


@pytest.mark.parametrize(
    ("endings", "last", "frozen"),
    [
        ([Ending.TURNED_OFF], Ending.TURNED_OFF, []),
        ([Ending.OUT_OF_TIME], Ending.OUT_OF_TIME, []),
        ([Ending.FROZEN, Ending.TURNED_OFF], Ending.TURNED_OFF, [1]),
        ([Ending.FROZEN, Ending.OUT_OF_TIME], Ending.OUT_OF_TIME, [1]),
        ([Ending.FROZEN, Ending.FROZEN], Ending.FROZEN, [1, 2]),
    ],
    ids=str,
)
async def test_once_more_after_a_freeze_and_after_nothing_else(
    endings: list[Ending], last: Ending, frozen: list[int]
) -> None:
    left, told = iter(endings), list[int]()

    async def run() -> Ending:
        return next(left)

    assert await rerun.unless_frozen(run, told.append) is last
    assert told == frozen
    assert list(left) == []
