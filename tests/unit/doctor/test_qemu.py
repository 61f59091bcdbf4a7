import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import AsyncMock

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.doctor import qemu
from pyro_mcp.doctor.report import Status
from pyro_mcp.doctor.shared import Shared
from pyro_mcp.vmm.qemu import PROGRAM
from pyro_mcp.workspace.host import Host
from tests.unit.doctor.small_bundle import make_bundle


@pytest.mark.parametrize(
    ("euid", "mend"), [(0, "apt-get install qemu-system-x86"), (1000, "sudo apt-get install qemu-system-x86")]
)
async def test_without_qemu_it_is_to_be_installed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, euid: int, mend: str
) -> None:
    settings = replace(settings, runtime_bundle_dir=tmp_path / "none")  # so KVM cannot be tried either
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: euid)
    row = await qemu.examine(Shared(settings))
    assert row.status is Status.FAIL
    assert "qemu-system-x86_64" in row.found
    assert row.mend == mend


@pytest.mark.parametrize(
    ("vmm", "kvm_works", "status"),
    [
        ("auto", True, Status.PASS),
        ("firecracker", True, Status.PASS),
        ("qemu", True, Status.FAIL),
        ("auto", False, Status.FAIL),
        ("firecracker", False, Status.FAIL),
    ],
)
async def test_qemu_may_be_missing_where_it_is_not_needed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, vmm: str, kvm_works: bool, status: Status
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    shared = Shared(replace(settings, vmm=vmm))
    monkeypatch.setattr(shared, "kvm_works", AsyncMock(return_value=kvm_works))
    row = await qemu.examine(shared)
    assert row.status is status
    assert "qemu-system-x86_64 is not installed" in row.found


async def test_the_proof_makes_no_file_that_could_stay_behind(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its guest boots from what the bundle has; that a real one answers then is shown in tests/vm."""
    bundle, temporary = make_bundle(tmp_path / "bundle"), tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setenv("PYRO_RUNTIME_BUNDLE_DIR", str(bundle))
    _install_qemu(tmp_path / "bin", monkeypatch)
    booted: list[Path] = []

    @asynccontextmanager
    async def boot(host: Host, image: Path, *, vcpu_count: int, mem_mib: int) -> AsyncIterator[SimpleNamespace]:
        assert list(temporary.iterdir()) == []
        assert host.driver.name == "qemu"
        booted.append(image)
        client = SimpleNamespace(ping=_answer, hello=SimpleNamespace(agent_version="1.2.3"))
        yield SimpleNamespace(client=client, boot_ms=7)

    monkeypatch.setattr(qemu, "boot_guest", boot)
    row = await qemu.examine(Shared(Settings.from_environment()))
    assert row.status is Status.PASS
    assert "QEMU 7.2.1 booted a guest that answered after 7 ms (agent 1.2.3)" in row.found
    assert booted == [bundle / "modules.sqfs"]


async def _answer() -> None:
    """A guest that answers."""


def _install_qemu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    program = folder / PROGRAM
    program.write_text("#!/bin/sh\necho QEMU emulator version 7.2.1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
