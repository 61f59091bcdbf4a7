"""Signals that are told while a block runs, and not after it."""

import os
import signal
import threading
import time

import pytest

from pyro_mcp.cli import signals
from pyro_mcp.cli.signals import told_of
from tests.support.descriptors import none_left, opened
from tests.support.waiting import wait_until


def test_what_came_in_time_is_told_before_the_block_ends() -> None:
    told: list[int] = []

    def slowly(number: int) -> None:
        time.sleep(0.05)
        told.append(number)

    with none_left(), told_of((signal.SIGTERM,), slowly):
        os.kill(os.getpid(), signal.SIGTERM)
    assert told == [signal.SIGTERM]


def test_whoever_is_held_up_by_a_signal_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_LAST_SECONDS", 0.05)
    before, go_on = opened().keys(), threading.Event()

    def be_held_up(_number: int) -> None:
        go_on.wait(30)

    with told_of((signal.SIGTERM,), be_held_up):
        os.kill(os.getpid(), signal.SIGTERM)
    assert not go_on.is_set()
    go_on.set()
    wait_until(lambda: opened().keys() == before)
