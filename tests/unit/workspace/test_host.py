"""What features get to run machines with, and how many machines may boot at once."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.errors import HostUnfit
from pyro_mcp.images.store import Store
from pyro_mcp.vmm import kvm
from pyro_mcp.vmm.kvm import KvmState, KvmVerdict
from pyro_mcp.workspace.host import Host, default_boot_slots, verified_host
from pyro_mcp.workspace.vmm_choice import VmmChoice
from tests.unit.doctor.small_bundle import make_bundle


@pytest.fixture
def with_bundle(settings: Settings, tmp_path: Path) -> Settings:
    return replace(settings, runtime_bundle_dir=make_bundle(tmp_path / "bundle"))


@pytest.fixture
def proofs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The programs by which KVM was proved, which runs no guest."""
    proved: list[Path] = []

    async def prove(firecracker: Path, *_: object, **__: object) -> KvmVerdict:
        proved.append(firecracker)
        return KvmVerdict(KvmState.NO_GUEST, "no guest ran", 1)

    monkeypatch.setattr(kvm, "prove", prove)
    monkeypatch.setattr(kvm, "try_open", lambda: (KvmState.WORKS, "it opens"))
    return proved


async def _host(settings: Settings, choice: VmmChoice) -> Host:
    return await verified_host(settings, Store(settings.cache_dir), default_boot_slots(), choice)


async def test_a_host_has_its_bundle_its_vmm_and_what_is_to_be_said_of_it(
    with_bundle: Settings, proofs: list[Path], tmp_path: Path
) -> None:
    choice = VmmChoice(with_bundle, confined=True)
    images = Store(with_bundle.cache_dir)
    quiet = await verified_host(with_bundle, images, default_boot_slots(), choice, quiet=True)
    assert (quiet.driver.name, quiet.notice) == ("qemu", None)
    host = await _host(with_bundle, choice)
    assert host.bundle.folder == tmp_path / "bundle"
    assert host.driver.name == "qemu"
    assert "no guest ran" in (host.notice or "")
    assert proofs == [host.bundle.firecracker]
    assert (await _host(with_bundle, choice)).notice is None


async def test_a_damaged_bundle_is_found_before_anything_of_it_runs(
    with_bundle: Settings, proofs: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "bundle" / "vmlinux").write_bytes(b"other")
    with pytest.raises(HostUnfit) as caught:
        await _host(with_bundle, VmmChoice(with_bundle, confined=True))
    assert caught.value.code == "corrupt_runtime_bundle"
    assert proofs == []


async def test_as_many_boot_at_once_as_there_are_processors() -> None:
    slots = default_boot_slots()
    for _ in range(os.cpu_count() or 1):
        assert not slots.locked()
        await slots.acquire()
    assert slots.locked()
