"""A chat host's server tells daemons that it is there; the daemons are real, but keep no machines."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.daemon.place import DaemonPlace
from pyro_mcp.daemon.requests import begin
from pyro_mcp.errors import PyroError
from pyro_mcp.mcp import presence
from tests.support.daemons import daemon_pid, daemons_of, end_daemon
from tests.support.waiting import wait_until


@pytest.fixture
def stays(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What becomes of each attempt to be there: `there` is followed by how it ends."""
    seen: list[str] = []
    stay = presence._stay_connected

    def noted(place: DaemonPlace, settings: Settings) -> None:
        try:
            stay(place, settings)
        except PyroError as error:
            seen.append(error.code)
            raise
        seen.append("end")

    def begun(*words: object) -> object:
        answer = begin(*words)  # type: ignore[arg-type]
        seen.append("there")
        return answer

    monkeypatch.setattr(presence, "_stay_connected", noted)
    monkeypatch.setattr(presence, "begin", begun)
    monkeypatch.setattr(presence, "_LOOK_AGAIN_SECONDS", 0.02)
    return seen


@contextmanager
def telling(settings: Settings) -> Iterator[None]:
    over = threading.Event()
    thread = threading.Thread(target=presence._tell_daemons, args=(settings, over))
    thread.start()
    try:
        yield
    finally:
        over.set()
        end_daemon(settings)
        thread.join(30)
        assert not thread.is_alive()


def test_each_daemon_is_told_and_none_is_started_for_that(settings: Settings, stays: list[str]) -> None:
    with telling(settings):
        assert daemons_of(settings.home) == []
        daemon_pid(settings)
        wait_until(lambda: stays == ["there"])
        end_daemon(settings)
        wait_until(lambda: stays == ["there", "end"])
        daemon_pid(settings)
        wait_until(lambda: stays == ["there", "end", "there"])
        end_daemon(settings)
        wait_until(lambda: stays == ["there", "end", "there", "end"])
        assert daemons_of(settings.home) == []


def test_a_daemon_of_others_is_left_alone(settings: Settings, stays: list[str]) -> None:
    others = replace(settings, templates="off")
    with telling(settings):
        pid = daemon_pid(others)
        wait_until(lambda: stays == ["other_daemon"])
        assert daemons_of(settings.home) == [pid]
        end_daemon(others)
        daemon_pid(settings)
        wait_until(lambda: stays == ["other_daemon", "there"])


@pytest.mark.usefixtures("daemon_client")
@pytest.mark.parametrize(("pool", "makes_workspaces"), [("0", True), ("4", False)])
def test_who_wants_no_machines_only_wakes_the_daemon(
    settings: Settings,
    stays: list[str],
    monkeypatch: pytest.MonkeyPatch,
    pool: str,
    makes_workspaces: bool,
) -> None:
    monkeypatch.setenv("PYRO_POOL", pool)
    presence._be_present(makes_workspaces)
    assert len(daemons_of(settings.home)) == 1
    assert stays == []


@pytest.mark.parametrize(
    ("name", "value"), [("PYRO_VMM", "nonsense"), ("PYRO_HOME", "/proc/nowhere"), ("PYRO_POOL", "9")]
)
def test_what_goes_wrong_is_nobodys_business(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, name: str, value: str
) -> None:
    monkeypatch.setenv("PYRO_POOL", "0")
    monkeypatch.setenv(name, value)
    presence._be_present(True)
    assert capfd.readouterr() == ("", "")
