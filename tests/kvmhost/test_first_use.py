"""What a newcomer does first, on a host with KVM: doctor, a run, a workspace. All of it through Firecracker."""

import json
from pathlib import Path

from tests.vm.pyro_command import Ended, PyroCommand

_TRIES = 3  # an emulated host takes its time, the more so when it has just booted and nothing is in its caches yet


def examined(pyro: PyroCommand) -> tuple[Ended, dict[str, dict[str, str]]]:
    """How the doctor ends, and its rows by name; asked again, as they advise, where some did not end in time."""
    for _ in range(_TRIES):
        ended = pyro("doctor", "--json")
        rows = {row["name"]: row for row in json.loads(ended.stdout)["rows"]}
        if not any("did not end within" in row["found"] for row in rows.values()):
            break
    return ended, rows


def test_doctor_proves_kvm(pyro: PyroCommand) -> None:
    ended, rows = examined(pyro)
    assert rows["kvm"]["status"] == "PASS", rows["kvm"]
    assert "Firecracker booted a guest" in rows["kvm"]["found"]
    assert rows["qemu"]["status"] == "PASS", rows["qemu"]  # it is not installed here, and not needed
    assert rows["isolation"]["status"] == "PASS", rows["isolation"]
    assert ended.exit_code == 0, [row for row in rows.values() if row["status"] == "FAIL"]


def test_a_command_runs_under_firecracker(pyro: PyroCommand) -> None:
    ended = pyro("run", "debian:12", "--", "git", "--version")
    assert ended.exit_code == 0, ended.stderr
    assert ended.stdout.startswith(b"git version 2.")
    assert "vmm=firecracker" in ended.stderr


def test_the_workspace_loop(pyro: PyroCommand, tmp_path: Path) -> None:
    seed = tmp_path / "seed"
    seed.mkdir()
    (seed / "text").write_text("one\n")
    made = pyro("workspace", "create", "debian:12", "--seed-path", str(seed), "--name", "loop", "--json")
    assert made.exit_code == 0, made.stderr
    assert json.loads(made.stdout)["vmm"] == "firecracker"
    # Firecracker writes zeros to the disk's file where QEMU makes a hole. (The kernel's thread that would write them is
    # there in any case for a moment, to read ahead.)
    nobody_writes_zeros = ("sh", "-c", "grep -qx noinit_itable /proc/fs/ext4/*/options")
    assert pyro("workspace", "exec", "loop", "--", *nobody_writes_zeros).exit_code == 0
    assert pyro("workspace", "exec", "loop", "--", "sh", "-c", "echo two >>text; cat text").stdout == b"one\ntwo\n"
    assert b"+two" in pyro("workspace", "diff", "loop").stdout
    assert pyro("workspace", "export", "loop", "text", "--output", str(tmp_path / "out")).exit_code == 0
    assert (tmp_path / "out").read_text() == "one\ntwo\n"
    assert pyro("workspace", "reset", "loop").exit_code == 0
    assert pyro("workspace", "exec", "loop", "--", "cat", "text").stdout == b"one\n"
    assert pyro("workspace", "stop", "loop").exit_code == 0
    assert pyro("workspace", "start", "loop").exit_code == 0
    assert pyro("workspace", "exec", "loop", "--", "cat", "text").stdout == b"one\n"
    assert pyro("workspace", "delete", "loop").exit_code == 0
