"""A machine that could never have its memory is refused before anything is made for it."""

from dataclasses import replace
from pathlib import Path

import pytest

from pyro_mcp.errors import HostUnfit
from pyro_mcp.workspace import host_memory, kept
from pyro_mcp.workspace.boot import boot_guest
from pyro_mcp.workspace.places import Places
from pyro_mcp.workspace.record import WorkspaceRecord
from tests.support.fake_templates import Place

_GIB_IN_KIB = 1 << 20


@pytest.fixture
def meminfo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Of a host with 24 GiB and no swap, until a test says otherwise."""
    file = tmp_path / "meminfo"
    file.write_text(f"MemTotal:       {24 * _GIB_IN_KIB} kB\nMemFree:        1 kB\nSwapTotal:       0 kB\n")
    monkeypatch.setattr(host_memory, "_MEMINFO", file)
    return file


def _refused(mem_mib: int) -> HostUnfit:
    with pytest.raises(HostUnfit) as caught:
        host_memory.check(mem_mib)
    assert caught.value.code == "not_enough_memory"
    assert "--mem-mib" in str(caught.value.hint)
    return caught.value


@pytest.mark.usefixtures("meminfo")
def test_all_that_the_host_has_and_no_more() -> None:
    host_memory.check(24 << 10)
    assert "this host has 24576 MiB" in _refused((24 << 10) + 1).message


def test_swap_counts_as_memory(meminfo: Path) -> None:
    meminfo.write_text(f"MemTotal: {24 * _GIB_IN_KIB} kB\nSwapTotal: {8 * _GIB_IN_KIB} kB\n")
    host_memory.check(32 << 10)
    assert "24576 MiB and 8192 MiB of swap" in _refused((32 << 10) + 1).message


def test_a_kernel_that_does_not_tell_refuses_nothing(meminfo: Path) -> None:
    meminfo.write_text("MemFree: 1 kB\n")
    host_memory.check(65536)


def test_this_host_has_some() -> None:
    host_memory.check(128)


@pytest.mark.usefixtures("meminfo")
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
