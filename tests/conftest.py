"""What all tests share: folders of their own, a limit on how long they may hang, and no daemon left behind."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.daemon.client import DaemonClient
from tests.support.daemons import daemons_under, end_daemon

# Whoever starts the tests in the background has them ignore interrupts or hang-ups, and so would every process that
# they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

_HANG_SECONDS = 120
_HANG_SECONDS_WITH_GUESTS = 900


@pytest.fixture(autouse=True)
def no_hang(request: pytest.FixtureRequest) -> Iterator[None]:
    """End a test that hangs, with the place where it does."""
    slow = request.node.get_closest_marker("vm") or request.node.get_closest_marker("slow")
    limit = _HANG_SECONDS_WITH_GUESTS if slow else _HANG_SECONDS

    def give_up(_number: int, _frame: FrameType | None) -> None:
        pytest.fail(f"the test did not end within {limit} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, limit, 5)  # again, should something swallow the first
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """State and environments of this test alone, wherever the settings are read from."""
    for name in (
        "PYRO_RUNTIME_BUNDLE_DIR",
        "PYRO_VMM",
        "PYRO_TEMPLATES",
        "PYRO_POOL",
        "XDG_STATE_HOME",
        "XDG_CACHE_HOME",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYRO_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PYRO_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def settings(own_places: None) -> Settings:
    """The settings of this test's places."""
    return Settings.from_environment()


@pytest.fixture
def daemon_client(settings: Settings) -> Iterator[DaemonClient]:
    """A client whose daemon, should one be started, ends with the test."""
    with contextlib.closing(DaemonClient(settings)) as client:
        yield client
    end_daemon(settings)


@pytest.fixture(scope="session", autouse=True)
def no_daemon_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail the session if a daemon of one of its tests outlives it."""
    yield
    left = daemons_under(tmp_path_factory.getbasetemp())
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"tests left daemons running: {left}"
