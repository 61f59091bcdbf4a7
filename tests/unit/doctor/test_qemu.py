import os
from pathlib import Path

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.doctor import qemu
from pyro_mcp.doctor.report import Status
from pyro_mcp.doctor.shared import Shared


@pytest.mark.parametrize(
    ("euid", "mend"), [(0, "apt-get install qemu-system-x86"), (1000, "sudo apt-get install qemu-system-x86")]
)
async def test_without_qemu_it_is_to_be_installed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, euid: int, mend: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: euid)
    row = await qemu.examine(Shared(settings))
    assert row.status is Status.FAIL
    assert "qemu-system-x86_64" in row.found
    assert row.mend == mend
