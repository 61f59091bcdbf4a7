"""A guest that begins from a template of long ago: its own clocks go on where they were, its time of day is right."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.vm.own_cache import trouble_with_templates
from tests.vm.pyro_command import PyroCommand

_DAYS = 40 * 86_400.0
_UPTIME_SECONDS = 300.0  # a boot and what follows take less, even here
_CLOCK_SECONDS = 10.0
# What the kernel says of a processor that it takes for one that hangs, it says within a few ticks of its timer.
_ASK = """
date +%s; cut -d ' ' -f 1 /proc/uptime
cat /sys/devices/system/clocksource/clocksource0/current_clocksource
sleep 2; dmesg | grep -iE 'stall|lockup|hung|blocked for' || echo calm
"""


@pytest.mark.kvmhost_root
def test_a_template_of_last_month(pyro: PyroCommand) -> None:
    assert pyro("run", "debian:12", "--", "true").exit_code == 0  # makes it
    trouble = trouble_with_templates(pyro.home)
    with host_clock_moved(_DAYS):
        before = time.time()
        ended = pyro("run", "debian:12", "--", "sh", "-c", _ASK)
        after = time.time()
    assert ended.exit_code == 0, ended.stderr
    date, uptime, clock, *said = ended.stdout.decode().splitlines()
    assert before - _CLOCK_SECONDS < float(date) < after + _CLOCK_SECONDS
    assert (clock, said) == ("tsc", ["calm"])
    assert float(uptime) < _UPTIME_SECONDS
    assert trouble_with_templates(pyro.home) == trouble


@contextmanager
def host_clock_moved(seconds: float) -> Iterator[None]:
    """Let this host's time of day be that much later; what runs since its boot, like timers, goes on as it was."""
    time.clock_settime(time.CLOCK_REALTIME, time.time() + seconds)
    try:
        yield
    finally:
        time.clock_settime(time.CLOCK_REALTIME, time.time() - seconds)
