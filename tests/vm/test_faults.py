"""What goes wrong on the host in the middle of a run: each a clear error, and nothing left behind."""

import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.runtime.bundle import find_bundle
from tests.support.pace import patience
from tests.support.waiting import wait_until
from tests.vm.own_cache import copied_cache
from tests.vm.pyro_command import VMM, Ended, PyroCommand, descendants, files_below, kill, named

if TYPE_CHECKING:
    import subprocess


def start_and_see_ready(pyro: PyroCommand) -> "subprocess.Popen[bytes]":
    """A run whose command is under way."""
    process = pyro.start("run", "debian:12", "--timeout-seconds", "600", "--", "sh", "-c", "echo ready; sleep 1000")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def finish(process: "subprocess.Popen[bytes]") -> Ended:
    with process:
        try:
            stdout, stderr = process.communicate(timeout=patience(60))
        except BaseException:
            process.kill()
            raise
    return Ended(process.returncode, stdout, stderr.decode())


def assert_still_works(pyro: PyroCommand) -> None:
    assert pyro("run", "debian:12", "--", "echo", "fine").stdout == b"fine\n"


def test_a_killed_vmm_is_told_and_leaves_nothing(lone_pyro: PyroCommand) -> None:
    process = start_and_see_ready(lone_pyro)
    daemon = lone_pyro.daemon_pid()
    (vmm,) = named(descendants(daemon), VMM)
    kill(vmm)
    ended = finish(process)
    assert ended.exit_code == 2
    assert "[guest_gone]" in ended.stderr
    wait_until(lambda: not descendants(daemon))
    assert_still_works(lone_pyro)


def test_a_killed_daemon_takes_its_machines_along_and_the_next_run_works(lone_pyro: PyroCommand) -> None:
    process = start_and_see_ready(lone_pyro)
    daemon = lone_pyro.daemon_pid()
    below = descendants(daemon)
    assert named(below, VMM)
    kill(daemon)
    ended = finish(process)
    assert ended.exit_code == 2
    assert "[daemon_gone]" in ended.stderr
    wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in below))
    assert_still_works(lone_pyro)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_client_that_goes_away_takes_its_machine_along(lone_pyro: PyroCommand, number: signal.Signals) -> None:
    process = start_and_see_ready(lone_pyro)
    daemon = lone_pyro.daemon_pid()
    before = {name for name in files_below(lone_pyro.home) if not name.startswith("vmms/")}
    process.send_signal(number)
    finish(process)
    wait_until(lambda: not descendants(daemon))
    wait_until(lambda: files_below(lone_pyro.home).keys() == before)  # Firecracker's folder goes after it


def test_an_interrupt_during_the_boot_ends_the_machine(lone_pyro: PyroCommand) -> None:
    daemon = lone_pyro.daemon_pid()
    process = lone_pyro.start("run", "debian:12", "--", "true")
    wait_until(lambda: named(descendants(daemon), VMM))
    process.send_signal(signal.SIGINT)
    ended = finish(process)
    assert ended.exit_code == 130
    assert "[interrupted]" in ended.stderr
    wait_until(lambda: not descendants(daemon))


@pytest.mark.whole_host
def test_an_interrupt_during_a_pull_leaves_nothing(lone_pyro: PyroCommand, tmp_path: Path) -> None:
    pyro = PyroCommand(lone_pyro.home, {"PYRO_CACHE_DIR": str(tmp_path / "cache")})
    process = pyro.start("run", "debian:12-base", "--", "true")
    assert process.stderr is not None
    assert any(b"phase=download" in line for line in process.stderr)
    daemon = pyro.daemon_pid()
    process.send_signal(signal.SIGINT)
    assert finish(process).exit_code == 130
    wait_until(lambda: not descendants(daemon))
    wait_until(lambda: not list((tmp_path / "cache" / "staging").iterdir()))
    assert not any(str(tmp_path) in line for line in Path("/proc/mounts").read_text().splitlines())
    pyro.client.stop()


def test_a_daemon_told_to_end_ends_its_machines_in_order(lone_pyro: PyroCommand) -> None:
    process = start_and_see_ready(lone_pyro)
    daemon = lone_pyro.daemon_pid()
    below = descendants(daemon)
    kill(daemon, signal.SIGTERM)
    assert finish(process).exit_code == 2
    wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in (daemon, *below)))
    assert not (lone_pyro.home / "daemon.sock").exists()


def test_no_vmm_on_the_host(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    pyro = PyroCommand(tmp_path / "home", {"PATH": str(tools), "PYRO_VMM": "qemu"})
    ended = pyro("run", "debian:12", "--", "true")
    pyro.client.stop()
    assert ended.exit_code == 1
    assert "[no_vmm]" in ended.stderr
    assert "apt-get install qemu-system-x86" in ended.stderr


def test_a_corrupted_image_is_found_before_use_and_can_be_pulled_again(tmp_path: Path) -> None:
    cache = copied_cache(tmp_path)
    pyro = PyroCommand(tmp_path / "home", {"PYRO_CACHE_DIR": str(cache)})
    assert_still_works(pyro)
    (image,) = cache.glob("images/*/rootfs.sqfs")
    image.chmod(0o644)
    with image.open("r+b") as file:
        file.seek(image.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    ended = pyro("run", "debian:12", "--", "true")
    assert ended.exit_code == 1
    assert "[image_corrupt]" in ended.stderr
    assert "pyro env pull debian:12" in ended.stderr
    assert not list(cache.glob("images/*"))
    listed = pyro("env", "list", "--json").stdout.decode()
    pyro.client.stop()
    assert '"installed": true' not in listed


def test_a_corrupted_runtime_bundle_is_found_before_use(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(find_bundle(Settings.from_environment()).folder, bundle)
    with (bundle / "vmlinux").open("r+b") as file:
        file.seek(4096)
        file.write(b"rubbish")
    pyro = PyroCommand(tmp_path / "home", {"PYRO_RUNTIME_BUNDLE_DIR": str(bundle)})
    ended = pyro("run", "debian:12", "--", "true")
    pyro.client.stop()
    assert ended.exit_code == 1
    assert "vmlinux" in ended.stderr
    assert "hint:" in ended.stderr
