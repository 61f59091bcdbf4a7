import os
from pathlib import Path

import pytest

from pyro_mcp.doctor import build_tools
from pyro_mcp.doctor.report import Status
from pyro_mcp.errors import HostUnfit
from pyro_mcp.images import confine


async def test_this_machine_can_build() -> None:
    row = await build_tools.examine()
    assert row.status is Status.PASS, row
    assert "mmdebstrap" in row.found


async def test_all_missing_packages_stand_in_one_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mksquashfs").touch(mode=0o755)
    monkeypatch.setattr(confine, "environment", lambda: {"PATH": str(tmp_path)})
    monkeypatch.setattr(build_tools, "KEYRING", tmp_path / "keyring.gpg")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    row = await build_tools.examine()
    assert row.status is Status.WARN
    assert "mmdebstrap, mkfs.ext4, debugfs, unshare, apt-get and" in row.found
    assert row.mend == "sudo apt-get install mmdebstrap e2fsprogs util-linux apt debian-archive-keyring"


async def test_a_user_who_cannot_be_root_in_a_build_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def find() -> confine.Confinement:
        raise HostUnfit("no_subuids", "no ids", "sudo usermod")

    monkeypatch.setattr(confine, "find", find)
    row = await build_tools.examine()
    assert row.status is Status.WARN
    assert "no ids" in row.found
    assert row.mend == "sudo usermod"


async def test_root_without_namespaces_can_build_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def find() -> confine.Confinement:
        return confine.Confinement(())

    monkeypatch.setattr(confine, "find", find)
    row = await build_tools.examine()
    assert row.status is Status.PASS
    assert "without namespaces" in row.found
