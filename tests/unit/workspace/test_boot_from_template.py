"""Machines begin as copies of templates, and boot where that does not work."""

import asyncio
import errno
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pyro_mcp.errors import GuestFailed, HostUnfit
from pyro_mcp.vmm.machine import Machine, MachineSpec
from pyro_mcp.workspace import boot
from pyro_mcp.workspace.boot import boot_guest
from pyro_mcp.workspace.host import Host
from pyro_mcp.workspace.template_stages import PREPARED
from tests.support.fake_agent import AgentStream
from tests.support.fake_machine import FakeDriver, Guest, answering, dead, silent, waiting
from tests.support.fake_templates import Place, begun

pytestmark = pytest.mark.usefixtures("disks")


async def _pong(stream: AgentStream) -> None:
    await stream.request()
    await stream.say(type="pong")


@pytest.fixture
def host(place: Place) -> Host:
    """One with templates."""
    place.boots.guests = [answering(_pong)]
    return replace(place.host, templates=place.daemon())


async def _run(host: Host, place: Place) -> None:
    async with boot_guest(host, place.image, vcpu_count=1, mem_mib=512) as guest:
        await guest.client.ping()


async def test_every_machine_begins_from_the_template(host: Host, place: Place) -> None:
    for _ in range(2):
        await _run(host, place)
    template = await begun(place.daemon(), place, PREPARED)
    assert [spec.template for spec in place.boots.specs] == [template, template]
    assert place.boots.with_console == [False, False]
    assert len(place.boots.templates) == 1


async def test_a_host_without_templates_boots(host: Host, place: Place) -> None:
    await _run(replace(host, templates=None), place)
    assert [spec.template for spec in place.boots.specs] == [None]
    assert not place.folder.exists()


async def test_where_none_can_be_made_the_first_attempt_boots_without_console(host: Host, place: Place) -> None:
    async def fail(*_: object) -> None:
        raise GuestFailed("guest_gone", "no")

    place.boots.makes = fail
    await _run(host, place)
    assert [spec.template for spec in place.boots.specs] == [None]
    assert place.boots.with_console == [False]


@pytest.mark.parametrize("guest", [silent, dead])
async def test_a_copy_that_does_not_come_up_is_booted_with_its_console_and_its_template_thrown_away(
    host: Host, place: Place, guest: Guest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(boot, "_READY_SECONDS", 0.2)  # the copy's; the second attempt has more
    place.boots.guests = [guest, answering(_pong)]
    await _run(host, place)
    copy, booted = place.boots.specs
    assert copy.template is not None
    assert booted.template is None
    assert place.boots.with_console == [False, True]
    assert place.there() == set()
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert f"the template {copy.template.folder.name} " in warning


async def test_after_that_a_new_one_is_made(host: Host, place: Place) -> None:
    place.boots.guests = [dead, answering(_pong)]
    for _ in range(3):
        await _run(host, place)
    assert [spec.template is None for spec in place.boots.specs] == [False, True, False, False]
    assert place.boots.with_console == [False, True, False, False]
    assert len(place.boots.templates) == 2


@pytest.mark.parametrize("error", [OSError("no such template"), HostUnfit("vmm_failed", "no such template")])
async def test_a_copy_that_cannot_be_started_is_booted(
    host: Host, place: Place, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    really_boot = FakeDriver.boot

    @asynccontextmanager
    async def refuses_copies(driver: FakeDriver, spec: MachineSpec) -> AsyncIterator[Machine]:
        if spec.template is not None:
            raise error
        async with really_boot(driver, spec) as machine:
            yield machine

    monkeypatch.setattr(FakeDriver, "boot", refuses_copies)
    await _run(host, place)
    assert [spec.template for spec in place.boots.specs] == [None]
    assert place.there() == set()
    assert "no such template" in caplog.text


async def _refusing_copies(host: Host, place: Place, error: Exception) -> None:
    """Run a machine while no copy can be started."""
    really_boot = FakeDriver.boot

    @asynccontextmanager
    async def refuses(driver: FakeDriver, spec: MachineSpec) -> AsyncIterator[Machine]:
        if spec.template is not None:
            raise error
        async with really_boot(driver, spec) as machine:
            yield machine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeDriver, "boot", refuses)
        await _run(host, place)


@pytest.mark.parametrize(
    "error",
    [
        *(OSError(code, os.strerror(code)) for code in (errno.ENOMEM, errno.EMFILE, errno.EAGAIN, errno.ENOSPC)),
        GuestFailed("guest_gone", "it ended; its last words:\n  | cannot set up guest memory: Cannot allocate memory"),
    ],
    ids=str,
)
async def test_what_this_host_lacks_is_no_fault_of_the_template(host: Host, place: Place, error: Exception) -> None:
    await _refusing_copies(host, place, error)
    template = await begun(place.daemon(), place, PREPARED)
    assert [spec.template for spec in place.boots.specs] == [None], "it booted"
    assert place.there() == {template.folder.name}
    assert len(place.boots.templates) == 1


@pytest.mark.parametrize("code", ["home_unusable", "no_disk_space", "no_vmm"])
async def test_where_no_machine_can_be_started_none_boots_and_the_template_stays(
    host: Host, place: Place, code: str
) -> None:
    with pytest.raises(HostUnfit) as caught:
        await _refusing_copies(host, place, HostUnfit(code, "no"))
    assert caught.value.code == code
    assert place.boots.specs == []
    assert len(place.there()) == 1


async def test_machines_that_begin_at_once_share_one_template(host: Host, place: Place) -> None:
    await asyncio.gather(*(_run(host, place) for _ in range(4)))
    assert len({spec.template for spec in place.boots.specs}) == 1
    assert len(place.boots.templates) == 1


async def test_each_copy_is_told_what_machine_it_is(host: Host, place: Place) -> None:
    told: list[Any] = []
    place.boots.guests = [waiting(told)]
    for _ in range(2):
        async with boot_guest(host, place.image, vcpu_count=1, mem_mib=512):
            pass
    machines = [start["machine"] for start in told]
    for name in ("machine_id", "host_name", "entropy"):
        assert machines[0][name] != machines[1][name], f"two machines have one {name}"
    for machine in machines:
        assert re.fullmatch("pyro-[0-9a-f]{8}", machine["host_name"])
        assert (machine["workspace"], machine["seed"]) == (False, False)


async def test_cancelling_the_making_starts_nothing(host: Host, place: Place) -> None:
    reached = asyncio.Event()

    async def hang(*_: object) -> None:
        reached.set()
        await asyncio.Future()

    place.boots.makes = hang
    running = asyncio.create_task(_run(host, place))
    await reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert place.boots.specs == []
    assert place.there() == set()


async def test_a_copy_of_a_template_that_somebody_removed_meanwhile_is_booted(
    host: Host, place: Place, tmp_path: Path
) -> None:
    """As by a prune between the choice and the start; the driver finds no file."""
    really_boot = FakeDriver.boot
    assert host.templates is not None
    await _run(host, place)
    template = place.boots.specs[0].template
    assert template is not None
    template.memory.unlink()

    @asynccontextmanager
    async def reads(driver: FakeDriver, spec: MachineSpec) -> AsyncIterator[Machine]:
        if spec.template is not None:
            spec.template.memory.read_bytes()
        async with really_boot(driver, spec) as machine:
            yield machine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeDriver, "boot", reads)
        await _run(host, place)
    assert [spec.template is None for spec in place.boots.specs] == [False, True]
