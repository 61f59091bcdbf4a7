"""A machine that could never have its memory is refused before anything is made for it."""

from dataclasses import replace
from pathlib import Path

import pytest

from pyro_mcp.errors import HostUnfit
from pyro_mcp.vmm import cgroup
from pyro_mcp.vmm.cgroup import Cgroups
from pyro_mcp.workspace import host_memory, kept
from pyro_mcp.workspace.boot import boot_guest
from pyro_mcp.workspace.places import Places
from pyro_mcp.workspace.record import WorkspaceRecord
from tests.support.fake_templates import Place

_GIB_IN_KIB = 1 << 20


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """The control groups that we are in, on a host with 24 GiB: none, until a test adds some."""
    meminfo, groups = tmp_path / "meminfo", list[Path]()
    meminfo.write_text(f"MemTotal:       {24 * _GIB_IN_KIB} kB\nMemFree:        1 kB\nSwapTotal:       0 kB\n")
    monkeypatch.setattr(host_memory, "_MEMINFO", meminfo)
    monkeypatch.setattr(cgroup, "own_groups", lambda: tuple(groups))
    monkeypatch.setattr(cgroup, "find", lambda: None)
    return groups


def _group(path: Path, limit: str) -> Path:
    path.mkdir()
    (path / "memory.max").write_text(f"{limit}\n")
    return path


def _refused(mem_mib: int) -> HostUnfit:
    with pytest.raises(HostUnfit) as caught:
        host_memory.check(mem_mib)
    assert caught.value.code == "not_enough_memory"
    assert "--mem-mib" in str(caught.value.hint)
    return caught.value


@pytest.mark.usefixtures("groups")
def test_all_that_the_host_has_and_no_more() -> None:
    host_memory.check(24 << 10)
    assert "this host has 24576 MiB" in _refused((24 << 10) + 1).message


def test_swap_counts_as_memory(groups: list[Path], tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text(f"MemTotal: {24 * _GIB_IN_KIB} kB\nSwapTotal: {8 * _GIB_IN_KIB} kB\n")
    host_memory.check(32 << 10)
    assert "24576 MiB and 8192 MiB of swap" in _refused((32 << 10) + 1).message


def test_a_control_group_may_have_less(groups: list[Path], tmp_path: Path) -> None:
    groups.append(_group(tmp_path / "own", "max"))
    groups.append(_group(tmp_path / "outer", str(4 << 30)))
    groups.append(_group(tmp_path / "outermost", str(64 << 30)))
    groups.append(tmp_path / "without a controller")
    host_memory.check(4 << 10)
    assert "the control group that pyro runs in has 4096 MiB" in _refused((4 << 10) + 1).message


def test_groups_that_vmms_leave_for_their_own_do_not_count(
    groups: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups.append(_group(tmp_path / "ours", str(8 << 30)))
    groups.insert(0, _group(tmp_path / "ours" / "now", str(1 << 30)))
    monkeypatch.setattr(cgroup, "find", lambda: Cgroups(tmp_path / "ours" / "pyro"))
    host_memory.check(8 << 10)
    _refused((8 << 10) + 1)


def test_a_kernel_that_does_not_tell_refuses_nothing(groups: list[Path], tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemFree: 1 kB\n")
    host_memory.check(65536)


def test_this_host_has_some() -> None:
    host_memory.check(128)


@pytest.mark.usefixtures("groups")
async def test_neither_a_template_nor_a_machine_is_tried(place: Place, tmp_path: Path) -> None:
    host = replace(place.host, templates=place.daemon())
    with pytest.raises(HostUnfit) as caught:
        async with boot_guest(host, place.image, vcpu_count=1, mem_mib=65536):
            pass
    assert caught.value.code == "not_enough_memory"
    places = Places(tmp_path / "home")
    places.home.mkdir()
    places.make("w-1")
    record = WorkspaceRecord("w-1", "debian:12", "digest", 1, 65536, "off", "2026-01-01", "fake", "disk-1.ext4")
    places.disk(record).touch(mode=0o600)
    tried: list[object] = []
    with pytest.raises(HostUnfit) as caught:
        await kept.start(host, place.image, record, places, tried.append)
    assert caught.value.code == "not_enough_memory"
    assert place.boots.specs == place.boots.templates == []
    assert tried == []
    assert not place.folder.exists()
