"""The proof of KVM as far as it can be tested on any machine; tests/vm has a host on which KVM really runs guests."""

import ast
import asyncio
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pyro_mcp.process import wait_for_end
from pyro_mcp.vmm import confine, firecracker_sandbox, kvm, user_ids, vmm_process
from pyro_mcp.vmm.kvm import KvmState, KvmVerdict
from pyro_mcp.vmm.kvm_device import KvmAccess
from tests.support.descriptors import none_left

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
    """A program in Firecracker's place that does what the script says."""
    path = tmp_path / "firecracker"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


async def prove(tmp_path: Path, device: Path, script: str, seconds: float = 30.0) -> KvmVerdict:
    files = (program(tmp_path, script), tmp_path / "vmlinux", tmp_path / "initramfs")
    verdict = await kvm.prove(*files, tmp_path / "run", confined=False, device=device, timeout_seconds=seconds)
    assert not (tmp_path / "run").exists() or list((tmp_path / "run").iterdir()) == []
    return verdict


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


async def test_it_is_shut_in_like_any_other(tmp_path: Path, device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a script in Firecracker's place that needs nothing but what every host has."""
    monkeypatch.setattr(firecracker_sandbox, "access_for", lambda *_: KvmAccess(Path("/dev/null"), Path("/dev/kvm")))
    for name in ("vmlinux", "initramfs"):
        (tmp_path / name).write_text(name)
    script = (
        f"test -e {tmp_path} || echo hidden > said; test -c /dev/kvm && echo kvm >> said\n"
        'config=$(cat "$5"); echo $(id -u) $(pwd) $(cat said /inputs/kernel) $(echo /inputs/*) "$config"'
    )
    files = (program(tmp_path, script), tmp_path / "vmlinux", tmp_path / "initramfs")
    verdict = await kvm.prove(*files, tmp_path / "run", device=device, timeout_seconds=30)
    assert verdict.state is KvmState.NO_GUEST
    _, _, said = verdict.detail.partition("its last words were ")
    user, *words = ast.literal_eval(said).split(" ", 8)
    assert user_ids.is_ours(int(user)) if os.geteuid() == 0 else int(user) == os.geteuid()
    assert words[:4] == [str(confine.FOLDER), "hidden", "kvm", "vmlinux"]
    assert words[4:7] == [f"/inputs/{name}" for name in ("firecracker", "initramfs", "kernel")]
    assert words[7].startswith('{"boot-source": {"kernel_image_path": "/inputs/kernel"')


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


@pytest.mark.parametrize("confined", [True, False])
async def test_firecracker_that_is_missing(tmp_path: Path, device: Path, confined: bool) -> None:
    missing = tmp_path / "missing"
    verdict = await kvm.prove(missing, missing, missing, tmp_path / "run", confined=confined, device=device)
    assert verdict.state is KvmState.UNTRIED
    assert "KVM opens, but Firecracker could not be started" in verdict.detail
    assert str(missing) in verdict.detail
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("what", ["sandbox", "folder"])
async def test_firecracker_that_cannot_be_started(
    tmp_path: Path, device: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "sandbox":
        monkeypatch.setattr(confine, "BWRAP", "/no/such/bwrap")
    else:
        (tmp_path / "run").touch()
    missing = tmp_path / "missing"
    with none_left():
        verdict = await kvm.prove(missing, missing, missing, tmp_path / "run", device=device)
        assert verdict.state is KvmState.UNTRIED
        assert "could not be started" in verdict.detail


async def test_a_sandbox_that_cannot_be_made_says_nothing_of_guests(
    tmp_path: Path, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on hosts that forbid namespaces to users."""
    bwrap = tmp_path / "bwrap"
    bwrap.write_text("#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2; exit 1\n")
    bwrap.chmod(0o755)
    monkeypatch.setattr(confine, "BWRAP", str(bwrap))
    monkeypatch.setattr(firecracker_sandbox, "access_for", lambda *_: KvmAccess())
    missing = tmp_path / "missing"
    verdict = await kvm.prove(missing, missing, missing, tmp_path / "run", device=device)
    assert verdict.state is KvmState.UNTRIED
    assert "could not be started" in verdict.detail
    assert "No permissions to create a new namespace" in verdict.detail
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("lacking", ["setpriv", "/bin/sh", "/inputs/firecracker"])
async def test_a_vmm_that_is_not_reached_inside_its_sandbox_says_nothing_of_guests(
    tmp_path: Path, device: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    """Whoever on the way from bubblewrap to Firecracker does not find the next says so."""
    confined = confine.confined

    def without(argv: Sequence[str], sandbox: confine.Sandbox, *, gated: bool) -> list[str]:
        words = confined(argv, sandbox, gated=gated)
        inside = len(words) - words[::-1].index(lacking) - 1
        return [*words[:inside], "/there/is/none", *words[inside + 1 :]]

    if lacking == "setpriv" and os.geteuid() != 0:
        pytest.skip("only root becomes somebody else")
    monkeypatch.setattr(vmm_process, "confined", without)
    monkeypatch.setattr(firecracker_sandbox, "access_for", lambda *_: KvmAccess(Path("/dev/null"), Path("/dev/kvm")))
    file = program(tmp_path, "echo 'pyro-agent: x'")
    verdict = await kvm.prove(file, file, file, tmp_path / "run", device=device, timeout_seconds=30)
    assert verdict.state is KvmState.UNTRIED, verdict.detail
    assert "/there/is/none" in verdict.detail


async def test_where_its_folder_can_have_no_device_kvm_is_untried(
    tmp_path: Path, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> KvmAccess:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(firecracker_sandbox, "access_for", refuse)
    missing = tmp_path / "missing"
    with none_left():
        verdict = await kvm.prove(missing, missing, missing, tmp_path / "run", device=device)
        assert verdict.state is KvmState.UNTRIED
        assert "Permission denied" in verdict.detail
        assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("words", ["bwrap: ", "gate: 1: exec: "])
async def test_a_guest_that_speaks_like_its_sandbox_was_a_guest(tmp_path: Path, device: Path, words: str) -> None:
    verdict = await prove(tmp_path, device, f"echo 'Linux version 6.1'; echo '{words}not found'")
    assert verdict.state is KvmState.NO_GUEST


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
    verdict = await kvm.prove(path, path, path, path, device=forbidden_device)
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


def test_each_bundle_has_a_proof_of_its_own(tmp_path: Path) -> None:
    """Otherwise two releases side by side would have to prove again and again."""
    silent = KvmVerdict(KvmState.NO_GUEST, "silent", 8000)
    for bundle, verdict in (("one", WORKS), ("two", silent), ("one", silent), ("three", WORKS)):
        kvm.remember(tmp_path, bundle, verdict)
    assert [kvm.remembered(tmp_path, bundle) for bundle in ("one", "two", "three")] == [silent, silent, WORKS]


def test_a_proof_holds_until_the_host_starts_again(tmp_path: Path) -> None:
    kvm.remember(tmp_path, "digest", WORKS)
    record = json.loads((tmp_path / "kvm.json").read_text())
    record["boot_id"] = "an-earlier-one"
    (tmp_path / "kvm.json").write_text(json.dumps(record))
    assert kvm.remembered(tmp_path, "digest") is None
    kvm.remember(tmp_path, "another", WORKS)
    assert kvm.remembered(tmp_path, "digest") is None


@pytest.mark.parametrize("state", [KvmState.ABSENT, KvmState.FORBIDDEN, KvmState.UNTRIED])
def test_what_can_change_any_time_is_not_remembered(tmp_path: Path, state: KvmState) -> None:
    kvm.remember(tmp_path, "digest", KvmVerdict(state, "", 0))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"boot_id": 1}', "\x00", '{"boot_id": OURS, "verdicts": 1}', '{"boot_id": OURS, "verdicts": []}'],
)
def test_rubbish_in_the_memory_is_as_good_as_nothing(tmp_path: Path, text: str) -> None:
    ours = json.dumps(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    (tmp_path / "kvm.json").write_text(text.replace("OURS", ours))
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
