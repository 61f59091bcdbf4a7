"""A machine that is thrown away has a disk of its own: as that of its template was, or blank where it boots."""

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pyro_mcp.errors import HostUnfit
from pyro_mcp.images import disk
from pyro_mcp.vmm.template import Template
from pyro_mcp.workspace import boot
from pyro_mcp.workspace.boot import boot_guest
from pyro_mcp.workspace.host import Host
from pyro_mcp.workspace.template_stages import PREPARED
from tests.support.fake_agent import AgentStream
from tests.support.fake_machine import answering
from tests.support.fake_templates import Place, begun
from tests.unit.workspace.conftest import SMALL_DISK_MIB

_AT = 1 << 20  # where a blank disk has nothing


async def _no_streams(_stream: AgentStream) -> None:
    pass


@pytest.fixture
def host(place: Place, monkeypatch: pytest.MonkeyPatch) -> Host:
    """One with templates."""
    monkeypatch.setattr(boot, "PREPARED", replace(PREPARED, disk_mib=SMALL_DISK_MIB))
    place.boots.guests = [answering(_no_streams)]
    return replace(place.host, templates=place.daemon())


@pytest.fixture
async def template(host: Host, place: Place) -> Template:
    """What machines begin from; its disk can be told from a blank one."""
    assert host.templates is not None
    made = await begun(host.templates, place, PREPARED)
    made.disk.chmod(0o644)
    with made.disk.open("r+b") as file:
        os.pwrite(file.fileno(), b"mounted", _AT)
    return made


async def _seen(host: Host, place: Place) -> bytes:
    """What a new machine finds on its disk, to which it writes then."""
    async with boot_guest(host, place.image, vcpu_count=1, mem_mib=512):
        spec = place.boots.specs[-1]
        found = os.pread(spec.disk_fd, 7, _AT)
        os.pwrite(spec.disk_fd, b"changed", _AT)
    return found


async def test_each_copy_has_a_copy_of_the_templates(host: Host, place: Place, template: Template) -> None:
    assert [await _seen(host, place) for _ in range(2)] == [b"mounted"] * 2
    assert place.there() == {template.folder.name}


async def test_a_machine_that_boots_has_a_blank_one(host: Host, place: Place, template: Template) -> None:
    assert await _seen(replace(host, templates=None), place) == bytes(7)


def _be_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda path: os.truncate(path, 4096), _be_a_pipe], ids=["gone", "cut", "pipe"]
)
async def test_without_the_templates_disk_it_boots(
    host: Host, place: Place, template: Template, damage: Callable[[Path], None]
) -> None:
    damage(template.disk)
    assert await _seen(host, place) == bytes(7)
    assert [spec.template for spec in place.boots.specs] == [None]
    assert place.there() == set()


@pytest.mark.parametrize(
    "refusal",
    [(errno.ENOSPC, "no_disk_space"), (errno.EACCES, "disk_failed"), (errno.EROFS, "disk_failed")],
    ids=lambda refusal: os.strerror(refusal[0]),
)
async def test_a_disk_of_the_host_is_no_fault_of_the_template(
    host: Host, place: Place, template: Template, monkeypatch: pytest.MonkeyPatch, refusal: tuple[int, str]
) -> None:
    def fail(_source: int, _target: int) -> None:
        raise OSError(refusal[0], os.strerror(refusal[0]))

    monkeypatch.setattr(disk, "_fill", fail)
    with pytest.raises(HostUnfit) as caught:
        await _seen(host, place)
    assert caught.value.code == refusal[1]
    assert place.there() == {template.folder.name}
    assert place.boots.specs == []
