"""The rate of the time stamp counter, measured or honestly unknown."""

import mmap
import time
from collections.abc import Iterator

import pytest

from pyro_mcp.vmm import tsc


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    tsc.host_khz.cache_clear()
    yield
    tsc.host_khz.cache_clear()


def test_it_is_a_rate_that_processors_have() -> None:
    rate = tsc.host_khz()
    assert rate is not None
    assert 200_000 < rate < 10_000_000


def test_it_is_measured_once() -> None:
    assert tsc.host_khz() == tsc.host_khz()
    assert tsc.host_khz.cache_info().misses == 1


def test_where_own_code_may_not_run_it_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("no writable and executable memory here")

    monkeypatch.setattr(mmap, "mmap", refuse)
    assert tsc.host_khz() is None


def test_a_sample_is_ticks_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = iter([1_000, 9_000_000 + 1_000])
    nanoseconds = iter([50, 3_000_000 + 50])
    monkeypatch.setattr(time, "monotonic_ns", lambda: next(nanoseconds))
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    assert tsc._sample_khz(lambda: next(counter)) == 3_000_000
