"""What a daemon does before it serves; a real one, no guests."""

import resource
from pathlib import Path

from pyro_mcp.config import Settings
from pyro_mcp.daemon.client import DaemonClient
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
