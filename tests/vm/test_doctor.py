"""`pyro doctor` on this very host: real VMMs, a real daemon, real damage."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.process import wait_for_end
from pyro_mcp.runtime.bundle import find_bundle
from pyro_mcp.vmm import kvm
from pyro_mcp.vmm.kvm import KvmState
from pyro_mcp.vmm.kvm_device import DEVICE
from tests.support.daemons import daemons_of, end_daemon
from tests.support.pace import patience
from tests.support.waiting import wait_until
from tests.vm.pyro_command import VMM, PyroCommand, descendants, files_below, named

Rows = dict[str, dict[str, str]]
# What an examination may keep: the verdict on KVM, the daemon's lock and log, and the blank disk and seed of every
# machine.
KEPT = {
    *("kvm.json", "daemon.lock", "daemon.log", "state.db", "history.db", "reserve"),
    *("blank-2-2048-no-journal.ext4", "blank.lock", "no-seed"),
}


@pytest.fixture
def doctor(settings: Settings) -> Iterator[PyroCommand]:
    yield PyroCommand(settings.home, {"PYRO_CACHE_DIR": str(settings.cache_dir)})
    end_daemon(settings)


def examine(pyro: PyroCommand, *flags: str) -> tuple[int, Rows]:
    ended = pyro("doctor", "--json", *flags)
    report = json.loads(ended.stdout)
    assert set(report) == {"ok", "rows", "duration_ms"}
    assert report["ok"] is (ended.exit_code == 0)
    assert all((row["mend"] is None) is (row["status"] == "PASS") for row in report["rows"])
    return ended.exit_code, {row["name"]: row for row in report["rows"]}


def files_of(settings: Settings) -> set[str]:
    folders = (settings.home, settings.cache_dir)
    return {Path(file).name for folder in folders for file in files_below(folder)}


@pytest.mark.whole_host
def test_this_host_runs_guests(doctor: PyroCommand, settings: Settings) -> None:
    exit_code, rows = examine(doctor)
    assert exit_code == 0, rows
    for name in ("platform", "runtime", "qemu", "isolation", "disk", "build", "network", "daemon"):
        assert rows[name]["status"] == "PASS", rows[name]
    assert "answered after" in rows["qemu"]["found"]
    assert rows["environments"]["mend"] == "pyro env pull debian:12"
    assert daemons_of(settings.home) == []
    assert files_of(settings) <= KEPT
    check_word_on_kvm(rows["kvm"], settings)


def check_word_on_kvm(row: dict[str, str], settings: Settings) -> None:
    """The row says what a guest proved, whichever way that went on this host, and later users find the same."""
    verdict = kvm.remembered(settings.cache_dir, find_bundle(settings).digest)
    if verdict is None:
        assert row["status"] == "WARN"
        assert str(DEVICE) in row["found"]
    elif verdict.state is KvmState.WORKS:
        assert row["status"] == "PASS"
    else:
        assert row["status"] == "WARN"
        assert verdict.detail in row["found"]
        assert "runs no guest" in row["found"]


def test_without_qemu_no_guest_can_run(doctor: PyroCommand, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    bare = PyroCommand(doctor.home, {**doctor.extra, "PATH": str(tmp_path / "bin"), "PYRO_VMM": "qemu"})
    exit_code, rows = examine(bare)
    assert exit_code == 1
    assert rows["qemu"]["status"] == "FAIL"
    assert rows["qemu"]["mend"].endswith("apt-get install qemu-system-x86")
    assert rows["isolation"]["mend"].endswith("apt-get install bubblewrap")


def test_a_damaged_bundle_is_named(doctor: PyroCommand, settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(find_bundle(settings).folder, folder)
    with (folder / "initramfs.cpio").open("r+b") as file:
        file.seek(4096)
        file.write(bytes([file.read(1)[0] ^ 1]))
    exit_code, rows = examine(PyroCommand(doctor.home, {**doctor.extra, "PYRO_RUNTIME_BUNDLE_DIR": str(folder)}))
    assert exit_code == 1
    assert rows["runtime"]["status"] == "FAIL"
    assert "initramfs.cpio is not what the manifest says" in rows["runtime"]["found"]
    assert "PYRO_RUNTIME_BUNDLE_DIR" in rows["runtime"]["mend"]
    assert (rows["kvm"]["status"], rows["qemu"]["status"]) == ("WARN", "FAIL")


def test_an_installed_environment_runs_a_command(pyro: PyroCommand) -> None:
    exit_code, rows = examine(pyro, "--environment", "debian:12")
    assert exit_code == 0, rows
    assert rows["environment"]["status"] == "PASS"
    assert rows["environments"]["status"] == "PASS"
    assert "debian:12" in rows["environments"]["found"]


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_nothing_outlives_an_examination_that_is_cut_short(
    doctor: PyroCommand, settings: Settings, tmp_path: Path, number: signal.Signals, exit_code: int
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    doctor.extra["TMPDIR"] = str(temporary)
    running = doctor.start("doctor", stdout=subprocess.PIPE)
    assert running.stdout is not None
    assert running.stdout.readline().startswith(b"PASS  platform")
    wait_until(lambda: named(descendants(running.pid), VMM))
    below = descendants(running.pid)
    os.kill(running.pid, number)
    _, stderr = running.communicate(timeout=patience(30))
    assert running.returncode == exit_code
    assert b"Traceback" not in stderr
    assert [pid for pid in below if not wait_for_end(pid, 10)] == []
    assert list(temporary.iterdir()) == []
    if number is not signal.SIGKILL:
        assert daemons_of(settings.home) == []
        assert files_of(settings) <= KEPT
