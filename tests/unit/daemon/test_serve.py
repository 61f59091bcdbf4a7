"""What a daemon does before it serves, and when it ends by itself; a real one, no guests."""

import asyncio
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.daemon import serve
from pyro_mcp.daemon.activity import Activity
from pyro_mcp.daemon.client import DaemonClient
from pyro_mcp.daemon.place import DaemonPlace
from pyro_mcp.vmm import confine
from pyro_mcp.workspace.vmm_choice import run_dir
from tests.support.daemons import daemon_pid, daemons_of, end_daemon
from tests.support.held_folder import held_by_another


def test_a_daemon_that_starts_leaves_the_vmm_of_a_doctor_alone(daemon_client: DaemonClient, settings: Settings) -> None:
    where = run_dir(settings)
    with held_by_another(where) as doctor, held_by_another(where) as killed:
        killed.kill()
        assert set(where.iterdir()) == {doctor.folder, killed.folder}
        daemon_client.ask("GET", "/v1/hello")
        assert list(where.iterdir()) == [doctor.folder]
        assert (doctor.folder / "below" / "file").read_text() == "in use"
        doctor.kill()
        end_daemon(settings)
        daemon_client.ask("GET", "/v1/hello")
        assert list(where.iterdir()) == []


def test_a_daemon_starts_whatever_is_among_the_folders_of_vmms(settings: Settings, tmp_path: Path) -> None:
    where = run_dir(settings)
    where.mkdir(mode=0o700, parents=True)
    (where / "file").touch()
    (where / "link").symlink_to(tmp_path)
    pid = daemon_pid(settings)
    assert daemons_of(settings.home) == [pid]
    end_daemon(settings)


def test_a_daemon_has_descriptors_for_many_workspaces(settings: Settings) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        pid = daemon_pid(settings)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (min(16_384, hard), hard)
    end_daemon(settings)


async def test_a_daemon_that_nobody_asks_ends_by_itself(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asyncio.Event()  # or else it might end before that, and a real one be started in its place

    def activity(stop: Callable[[], None], is_wanted: Callable[[], bool]) -> Activity:
        return Activity(stop, 0.2, lambda: not asked.is_set() or is_wanted())

    monkeypatch.setattr(serve, "Activity", activity)
    place = DaemonPlace(settings.home)
    place.prepare()
    serving = asyncio.create_task(serve._serve(settings, place.listen()))
    answer = await asyncio.to_thread(DaemonClient(settings).ask, "GET", "/v1/hello")
    assert answer["pid"] == os.getpid()
    asked.set()
    async with asyncio.timeout(30):
        await serving
    with pytest.raises(ConnectionRefusedError):
        place.connect()


async def test_where_nothing_can_be_confined_the_log_says_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def why() -> str:
        return "bubblewrap is not installed"

    monkeypatch.setattr(confine, "why_unconfinable", why)
    monkeypatch.setattr(serve, "Activity", lambda stop, **more: Activity(stop, 0.05, **more))
    place = DaemonPlace(settings.home)
    place.prepare()
    await serve._serve(settings, place.listen())
    assert "bubblewrap is not installed" in caplog.text
