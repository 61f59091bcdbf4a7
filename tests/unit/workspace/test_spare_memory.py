"""What the host has left for machines."""

from pathlib import Path

import pytest

from pyro_mcp.vmm import cgroup
from pyro_mcp.workspace import spare_memory
from pyro_mcp.workspace.spare_memory import spare_mib

_MIB = 1 << 20


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """The control groups that we are in, on a host with 20 GiB to spare: none, until a test adds some."""
    meminfo, groups = tmp_path / "meminfo", list[Path]()
    meminfo.write_text("MemAvailable:   20971520 kB\n")
    monkeypatch.setattr(spare_memory, "_MEMINFO", meminfo)
    monkeypatch.setattr(cgroup, "own_groups", lambda: tuple(groups))
    return groups


def _group(path: Path, limit: str, used: int, cached: int) -> Path:
    path.mkdir()
    (path / "memory.max").write_text(f"{limit}\n")
    (path / "memory.current").write_text(f"{used}\n")
    (path / "memory.stat").write_text(f"anon 1\nactive_file 4096\ninactive_file {cached}\n")
    return path


def test_a_control_group_leaves_what_it_has_not_used(groups: list[Path], tmp_path: Path) -> None:
    groups.append(_group(tmp_path / "own", str(4096 * _MIB), 3000 * _MIB, 500 * _MIB))
    assert spare_mib() == 4096 - 3000 + 500


def test_the_narrowest_of_all_limits_counts(groups: list[Path], tmp_path: Path) -> None:
    groups.append(_group(tmp_path / "own", "max", 3000 * _MIB, 0))
    assert spare_mib() == 20 << 10
    groups.append(_group(tmp_path / "outer", str(8192 * _MIB), 1024 * _MIB, 0))
    groups.append(_group(tmp_path / "outermost", str(65536 * _MIB), 1024 * _MIB, 0))
    groups.append(tmp_path / "without a controller")
    assert spare_mib() == 7 << 10
    groups.append(_group(tmp_path / "over", str(1024 * _MIB), 2048 * _MIB, 0))
    assert spare_mib() == 0


def test_what_the_kernel_calls_available_is_told_in_mib(groups: list[Path], tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       24683956 kB\nMemFree:        1 kB\nMemAvailable:   20971520 kB\n")
    assert spare_mib() == 20 << 10
    meminfo.write_text("MemTotal:       24683956 kB\n")
    assert spare_mib() == 0, "a kernel that does not tell has none to spare"


def test_this_host_has_some() -> None:
    assert spare_mib() > 0
