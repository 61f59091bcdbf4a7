"""The proof of KVM as far as it can be tested on any machine; tests/vm has a host on which KVM really runs guests."""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyro_mcp.process import wait_for_end
from pyro_mcp.vmm import kvm
from pyro_mcp.vmm.kvm import KvmState, KvmVerdict

NOBODY = 65534
WORKS = KvmVerdict(KvmState.WORKS, "a guest ran", 300)


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "kvm"
    path.touch(mode=0o600)
    return path


@pytest.fixture
def forbidden_device(device: Path) -> Iterator[Path]:
    """A device that this process may not open, which root may not either while it is nobody."""
    device.chmod(0)
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    yield device
    os.seteuid(before)


def program(tmp_path: Path, script: str) -> Path:
    """A program in Firecracker's place that does what the script says; it can use no PATH."""
    path = tmp_path / "firecracker"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


async def prove(tmp_path: Path, device: Path, script: str, seconds: float = 30.0) -> KvmVerdict:
    files = (tmp_path / "vmlinux", tmp_path / "initramfs")
    return await kvm.prove(program(tmp_path, script), *files, device=device, timeout_seconds=seconds)


async def test_the_agents_first_words_are_the_proof(tmp_path: Path, device: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"echo $$ > {pid_file}; echo '[0.5] pyro-'; echo '[0.6] pyro-agent: fatal: no image'; exec /bin/sleep 1000"
    verdict = await prove(tmp_path, device, script)
    assert verdict.state is KvmState.WORKS
    assert wait_for_end(int(pid_file.read_text()), 0), "the VMM outlived its proof"


async def test_firecracker_gets_everything_in_one_file(tmp_path: Path, device: Path) -> None:
    script = f'echo "$@" > {tmp_path}/argv; /bin/cat "$5" > {tmp_path}/config; echo "pyro-agent: x"'
    assert (await prove(tmp_path, device, script)).state is KvmState.WORKS
    argv = (tmp_path / "argv").read_text().split()
    assert argv[:4] == ["--no-api", "--level", "Off", "--config-file"]
    config = json.loads((tmp_path / "config").read_text())
    boot = config["boot-source"]
    assert boot["kernel_image_path"] == str(tmp_path / "vmlinux")
    assert boot["initrd_path"] == str(tmp_path / "initramfs")
    assert "console=ttyS0" in boot["boot_args"].split()
    assert config["drives"] == []
    assert config["machine-config"]["vcpu_count"] == 1


async def test_a_silent_guest_is_given_up_and_killed(tmp_path: Path, device: Path) -> None:
    pid_file = tmp_path / "pid"
    ready = f"echo $$ > {pid_file}; trap '' TERM; while :; do /bin/sleep 1; done"
    verdict = await prove(tmp_path, device, ready, seconds=0.5)
    assert verdict.state is KvmState.NO_GUEST
    assert "it printed nothing" in verdict.detail
    assert "0.5 s" in verdict.detail
    assert wait_for_end(int(pid_file.read_text()), 0)


async def test_a_kernel_that_dies_is_no_proof(tmp_path: Path, device: Path) -> None:
    verdict = await prove(tmp_path, device, "echo 'Linux version 6.1'; echo 'Kernel panic - not syncing'; echo")
    assert verdict.state is KvmState.NO_GUEST
    assert "Firecracker ended" in verdict.detail
    assert "'Kernel panic - not syncing'" in verdict.detail
    assert "Linux version" not in verdict.detail


async def test_a_flood_of_output_is_no_proof_and_not_kept(tmp_path: Path, device: Path) -> None:
    verdict = await prove(tmp_path, device, "exec /bin/dd if=/dev/zero bs=1M count=8 status=none")
    assert verdict.state is KvmState.NO_GUEST
    assert len(verdict.detail) < 2000


async def test_firecracker_that_cannot_be_started(tmp_path: Path, device: Path) -> None:
    missing = tmp_path / "missing"
    verdict = await kvm.prove(missing, missing, missing, device=device)
    assert verdict.state is KvmState.NO_GUEST
    assert "could not be started" in verdict.detail


async def test_cancelling_a_proof_ends_its_machine(tmp_path: Path, device: Path) -> None:
    os.mkfifo(tmp_path / "started")
    script = f"echo $$ > {tmp_path}/started; exec /bin/sleep 1000"
    proof = asyncio.create_task(prove(tmp_path, device, script))
    pid = int(await asyncio.to_thread((tmp_path / "started").read_text))
    proof.cancel()
    with pytest.raises(asyncio.CancelledError):
        await proof
    assert wait_for_end(pid, 0)


async def test_no_device(tmp_path: Path) -> None:
    verdict = await prove(tmp_path, tmp_path / "none", "echo 'pyro-agent: x'")
    assert verdict.state is KvmState.ABSENT
    assert str(tmp_path / "none") in verdict.detail


async def test_a_device_with_nothing_behind_it(tmp_path: Path) -> None:
    verdict = await prove(tmp_path, tmp_path, "echo 'pyro-agent: x'")
    assert verdict.state is KvmState.ABSENT
    assert "nothing is behind it" in verdict.detail


async def test_a_device_that_this_user_may_not_open(forbidden_device: Path) -> None:
    path = Path("/nowhere")
    verdict = await kvm.prove(path, path, path, device=forbidden_device)
    assert verdict.state is KvmState.FORBIDDEN
    assert "Permission denied" in verdict.detail


@pytest.mark.parametrize("verdict", [WORKS, KvmVerdict(KvmState.NO_GUEST, "silent", 8000)])
def test_a_proof_is_remembered_for_its_bundle(tmp_path: Path, verdict: KvmVerdict) -> None:
    home = tmp_path / "new" / "home"
    kvm.remember(home, "digest", verdict)
    assert kvm.remembered(home, "digest") == verdict
    assert kvm.remembered(home, "another") is None
    assert [path.name for path in home.iterdir()] == ["kvm.json"]
    assert home.stat().st_mode & 0o077 == 0


def test_a_proof_holds_until_the_host_starts_again(tmp_path: Path) -> None:
    kvm.remember(tmp_path, "digest", WORKS)
    record = json.loads((tmp_path / "kvm.json").read_text())
    record["boot_id"] = "an-earlier-one"
    (tmp_path / "kvm.json").write_text(json.dumps(record))
    assert kvm.remembered(tmp_path, "digest") is None


@pytest.mark.parametrize("state", [KvmState.ABSENT, KvmState.FORBIDDEN])
def test_what_can_change_any_time_is_not_remembered(tmp_path: Path, state: KvmState) -> None:
    kvm.remember(tmp_path, "digest", KvmVerdict(state, "", 0))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"boot_id": 1}', "\x00"])
def test_rubbish_in_the_memory_is_as_good_as_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "kvm.json").write_text(text)
    assert kvm.remembered(tmp_path, "digest") is None


def test_a_strange_state_in_the_memory_is_as_good_as_nothing(tmp_path: Path) -> None:
    kvm.remember(tmp_path, "digest", WORKS)
    text = (tmp_path / "kvm.json").read_text().replace('"works"', '"perhaps"')
    (tmp_path / "kvm.json").write_text(text)
    assert kvm.remembered(tmp_path, "digest") is None


def test_a_home_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    kvm.remember(tmp_path / "home", "digest", WORKS)
    assert kvm.remembered(tmp_path / "home", "digest") is None
