"""What the host has left for machines."""

from pathlib import Path

import pytest

from pyro_mcp.workspace import spare_memory
from pyro_mcp.workspace.spare_memory import spare_mib


def test_what_the_kernel_calls_available_is_told_in_mib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       24683956 kB\nMemFree:        1 kB\nMemAvailable:   20971520 kB\n")
    monkeypatch.setattr(spare_memory, "_MEMINFO", meminfo)
    assert spare_mib() == 20 << 10
    meminfo.write_text("MemTotal:       24683956 kB\n")
    assert spare_mib() == 0, "a kernel that does not tell has none to spare"


def test_this_host_has_some() -> None:
    assert spare_mib() > 0
