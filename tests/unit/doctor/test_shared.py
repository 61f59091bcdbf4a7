import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.doctor import bundle, environments, kvm, qemu
from pyro_mcp.doctor.report import Status
from pyro_mcp.doctor.shared import Once, Shared
from pyro_mcp.errors import HostUnfit
from pyro_mcp.images import store
from pyro_mcp.vmm import kvm as vmm_kvm
from pyro_mcp.vmm.kvm import KvmState, KvmVerdict
from pyro_mcp.vmm.qemu import QemuDriver
from tests.unit.doctor.small_bundle import make_bundle


@pytest.fixture
def with_bundle(settings: Settings, tmp_path: Path) -> Settings:
    return replace(settings, runtime_bundle_dir=make_bundle(tmp_path / "bundle"))


async def test_what_many_want_is_found_once() -> None:
    calls = []

    async def find() -> int:
        calls.append(1)
        await asyncio.sleep(0)
        return 7

    once = Once(find)
    assert list(await asyncio.gather(once.get(), once.get())) == [7, 7]
    assert await once.get() == 7
    assert len(calls) == 1


async def test_all_who_want_it_get_the_error() -> None:
    async def find() -> int:
        raise HostUnfit("x", "not here")

    once = Once(find)
    results = await asyncio.gather(once.get(), once.get(), return_exceptions=True)
    assert [type(result) for result in results] == [HostUnfit, HostUnfit]


async def test_who_stops_waiting_leaves_the_others_waiting() -> None:
    go = asyncio.Event()
    once = Once(go.wait)
    first, second = asyncio.create_task(once.get()), asyncio.create_task(once.get())
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    go.set()
    assert await second


async def test_a_whole_bundle_is_told_with_its_versions(with_bundle: Settings) -> None:
    row = await bundle.examine(Shared(with_bundle))
    assert row.status is Status.PASS
    assert "all 6 files" in row.found
    assert "linux 6.1-test" in row.found


async def test_every_damaged_file_is_named_however_often_it_was_whole_before(
    with_bundle: Settings, tmp_path: Path
) -> None:
    assert (await bundle.examine(Shared(with_bundle))).status is Status.PASS
    (tmp_path / "bundle" / "vmlinux").write_bytes(b"other")
    (tmp_path / "bundle" / "bin" / "jailer").unlink()
    row = await bundle.examine(Shared(with_bundle))
    assert row.status is Status.FAIL
    assert "vmlinux is not what the manifest says" in row.found
    assert "bin/jailer cannot be read" in row.found
    assert "modules.sqfs" not in row.found


async def test_without_a_bundle_no_guest_is_tried(settings: Settings, tmp_path: Path) -> None:
    shared = Shared(replace(settings, runtime_bundle_dir=tmp_path / "nothing"))
    rows = [await check.examine(shared) for check in (bundle, kvm, qemu)]
    assert [row.status for row in rows] == [Status.FAIL, Status.WARN, Status.FAIL]
    assert all("PYRO_RUNTIME_BUNDLE_DIR" in (row.mend or "") for row in rows)


WITHOUT_KVM = [state for state in KvmState if state is not KvmState.WORKS]


class Proofs:
    """Proofs of KVM with this outcome, counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, state: KvmState) -> None:
        self.count = 0
        self._verdict = KvmVerdict(state, "what was seen", 321)
        monkeypatch.setattr(vmm_kvm, "prove", self._prove)

    async def _prove(self, *_files: Path, confined: bool, **_: object) -> KvmVerdict:
        assert confined
        self.count += 1
        return self._verdict


async def test_kvm_is_proved_once_for_all_who_want_to_know_whatever_was_found_earlier(
    with_bundle: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    proofs = Proofs(monkeypatch, KvmState.WORKS)
    for examination in (1, 2):
        shared = Shared(with_bundle)
        row, host = await asyncio.gather(kvm.examine(shared), shared.host())
        assert (row.status, host.driver.name) == (Status.PASS, "firecracker")
        assert "321 ms" in row.found
        assert await shared.kvm_works()
        assert proofs.count == examination
    remembered = vmm_kvm.remembered(with_bundle.cache_dir, host.bundle.digest)
    assert remembered == KvmVerdict(KvmState.WORKS, "what was seen", 321)


@pytest.mark.parametrize("state", WITHOUT_KVM)
async def test_without_kvm_hosts_have_qemu(
    with_bundle: Settings, monkeypatch: pytest.MonkeyPatch, state: KvmState
) -> None:
    Proofs(monkeypatch, state)
    shared = Shared(with_bundle)
    assert (await shared.host()).driver == QemuDriver(confined=True)
    assert not await shared.kvm_works()


@pytest.mark.parametrize("state", WITHOUT_KVM)
@pytest.mark.parametrize(
    ("vmm", "status"), [("auto", Status.WARN), ("qemu", Status.WARN), ("firecracker", Status.FAIL)]
)
async def test_without_kvm_is_a_failure_where_it_is_asked_for(
    with_bundle: Settings, monkeypatch: pytest.MonkeyPatch, state: KvmState, vmm: str, status: Status
) -> None:
    Proofs(monkeypatch, state)
    row = await kvm.examine(Shared(replace(with_bundle, vmm=vmm)))
    assert row.status is status
    assert row.found.startswith("what was seen")
    assert ("PYRO_VMM=firecracker" in row.found) == (vmm == "firecracker")
    assert row.mend


@pytest.mark.parametrize("vmm", ["auto", "qemu", "firecracker"])
async def test_with_kvm_it_is_a_pass_whoever_asks(
    with_bundle: Settings, monkeypatch: pytest.MonkeyPatch, vmm: str
) -> None:
    Proofs(monkeypatch, KvmState.WORKS)
    assert (await kvm.examine(Shared(replace(with_bundle, vmm=vmm)))).status is Status.PASS


async def test_without_a_bundle_kvm_is_not_known_to_work(settings: Settings, tmp_path: Path) -> None:
    assert not await Shared(replace(settings, runtime_bundle_dir=tmp_path / "nothing")).kvm_works()


async def test_a_vmm_that_cannot_run_here_is_refused(with_bundle: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    Proofs(monkeypatch, KvmState.NO_GUEST)
    shared = Shared(replace(with_bundle, vmm="firecracker"))
    with pytest.raises(HostUnfit) as caught:
        await shared.host()
    assert caught.value.code == "no_kvm"
    assert "PYRO_VMM" in caught.value.message
    monkeypatch.setattr(store, "inspect", lambda *_: SimpleNamespace(installed=True))
    row = await environments.examine_run(shared, "debian:12")
    assert row.status is Status.FAIL
    assert "PYRO_VMM" in row.found


@pytest.mark.parametrize("vmm", ["auto", "firecracker", "qemu"])
async def test_qemu_is_proved_whichever_vmm_is_used(
    with_bundle: Settings, monkeypatch: pytest.MonkeyPatch, vmm: str
) -> None:
    """It is what is left when KVM is lost; and KVM's own proof is not waited for."""
    proofs = Proofs(monkeypatch, KvmState.WORKS)
    host = await Shared(replace(with_bundle, vmm=vmm)).host_without_kvm()
    assert host.driver == QemuDriver(confined=True)
    assert proofs.count == 0
