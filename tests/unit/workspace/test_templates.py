"""A template is made once for each shape of machine, is whole or not there, and is never what stops a machine."""

import asyncio
import errno
import fcntl
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyro_mcp.errors import GuestFailed, HostUnfit
from pyro_mcp.images import no_seed
from pyro_mcp.vmm.template import Template, UntilReady
from pyro_mcp.workspace import template_room, template_stages
from pyro_mcp.workspace import templates as templates_module
from pyro_mcp.workspace.host import Host
from pyro_mcp.workspace.template_stages import PREPARED
from tests.support.fake_machine import make
from tests.support.fake_templates import Place, begun
from tests.support.small_disk import small_disk
from tests.support.waiting import until
from tests.unit.workspace.conftest import SMALL_DISK_MIB


async def test_the_first_machine_of_a_shape_has_a_template_made(place: Place) -> None:
    spec = place.spec()
    copy = await place.daemon().begin_from(place.host, spec)
    assert copy.template is not None
    assert replace(copy, template=None) == spec
    assert copy.template.folder.parent == place.folder
    assert copy.template.state.read_text() == "the state"
    assert copy.template.memory.read_text() == "the memory"
    assert place.there() == {copy.template.folder.name}


async def test_nobody_can_write_to_its_files_by_mistake(place: Place) -> None:
    template = await begun(place.daemon(), place, PREPARED)
    assert {file.stat().st_mode & 0o777 for file in (template.state, template.memory, template.disk)} == {0o444}


async def test_the_machine_that_is_written_down_has_nothing_of_its_own(place: Place, tmp_path: Path) -> None:
    own = place.spec(seed=tmp_path / "seed", durable=True)
    await place.daemon().begin_from(place.host, own)
    (made,) = place.boots.templates
    assert made.disk_fd != own.disk_fd
    assert made == replace(own, disk_fd=made.disk_fd, seed=no_seed.path(tmp_path), durable=False)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(made.disk_fd)


async def test_the_disk_that_a_guest_has_mounted_is_part_of_it(place: Place) -> None:
    async def mounting(template: Template, until_ready: UntilReady) -> None:
        os.pwrite(place.boots.templates[-1].disk_fd, b"mounted", 4096)
        await make(template, until_ready)

    place.boots.makes = mounting
    template = await begun(place.daemon(), place, PREPARED)
    content = template.disk.read_bytes()
    assert (content[4096:4103], len(content)) == (b"mounted", SMALL_DISK_MIB << 20)
    assert not (await begun(place.daemon(), place)).disk.exists(), "that of workspaces is another"
    assert len(place.boots.templates) == 2


async def test_later_machines_and_daemons_find_it_there(place: Place) -> None:
    templates = place.daemon()
    found = [await begun(daemon, place) for daemon in (templates, templates, place.daemon())]
    assert found[0] == found[1] == found[2]
    assert len(place.boots.templates) == 1


async def test_it_is_made_once_when_many_want_it(place: Place) -> None:
    ours, others = place.daemon(), place.daemon()
    found = await asyncio.gather(*(begun(daemon, place) for daemon in (ours, others) for _ in range(4)))
    assert len(set(found)) == 1
    assert len(place.boots.templates) == 1


async def test_it_is_booted_in_one_of_the_hosts_slots(place: Place) -> None:
    locked = []

    async def note(template: Template, until_ready: UntilReady) -> None:
        locked.append(place.host.boot_slots.locked())
        await make(template, until_ready)

    place.boots.makes = note
    await begun(place.daemon(), place)
    assert locked == [True]
    assert not place.host.boot_slots.locked()


def _with_digest(host: Host) -> Host:
    bundle: Any = SimpleNamespace(**{**vars(host.bundle), "digest": "another"})
    return replace(host, bundle=bundle)


def _with_driver(**changes: str) -> Callable[[Host], Host]:
    def changed(host: Host) -> Host:
        driver: Any = host.driver
        return replace(host, driver=replace(driver, **changes))

    return changed


@pytest.mark.parametrize(
    "another",
    [_with_digest, _with_driver(name="another"), _with_driver(of_shape="another")],
    ids=["bundle", "driver", "shape"],
)
async def test_on_another_host_another_is_made(place: Place, another: Callable[[Host], Host]) -> None:
    one = await begun(place.daemon(), place)
    place.host = another(place.host)
    assert await begun(place.daemon(), place) != one


async def test_of_another_image_another_is_made(place: Place, tmp_path: Path) -> None:
    one = await begun(place.daemon(), place)
    (tmp_path / "digest").mkdir()
    assert await begun(place.daemon(), place, image=tmp_path / "digest" / place.image.name) != one


async def test_on_another_processor_or_kernel_another_is_made(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {await begun(place.daemon(), place)}
    monkeypatch.setattr("platform.release", lambda: "6.1.0-another")
    found.add(await begun(place.daemon(), place))
    monkeypatch.setattr(templates_module, "_processor", lambda: "flags: another")
    found.add(await begun(place.daemon(), place))
    assert len(found) == 3


def test_the_processor_is_told_by_what_does_not_change_meanwhile() -> None:
    told = templates_module._processor()
    assert told == templates_module._processor()
    assert "flags" in told
    assert "MHz" not in told


async def test_of_whatever_a_machine_has_of_its_own_none_is_made(place: Place, tmp_path: Path) -> None:
    one = await begun(place.daemon(), place)
    assert await begun(place.daemon(), place, disk_fd=1000, durable=True, seed=tmp_path / "seed") == one


# Where none can be made


def _failing(error: Exception) -> Callable[[Template, UntilReady], Awaitable[None]]:
    async def fail(template: Template, _until_ready: UntilReady) -> None:
        template.state.write_text("half of it")
        raise error

    return fail


@pytest.mark.parametrize(
    "error",
    [
        GuestFailed("guest_gone", "it did not come up"),
        HostUnfit("no_vmm", "it did not come up"),
        OSError(errno.ENOSPC, "it did not come up"),
    ],
    ids=["guest", "host", "disk"],
)
async def test_machines_boot_where_none_can_be_made_and_that_is_said_once(
    place: Place, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    place.boots.makes = _failing(error)
    templates, spec = place.daemon(), place.spec()
    for _ in range(3):
        assert await templates.begin_from(place.host, spec) == spec
    assert place.there() == set()
    assert len(place.boots.templates) == 1
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "it did not come up" in record.getMessage()


async def test_other_shapes_are_tried_and_the_next_daemon_tries_again(place: Place) -> None:
    place.boots.makes = _failing(GuestFailed("guest_gone", "it did not come up"))
    templates = place.daemon()
    await templates.begin_from(place.host, place.spec())
    place.boots.makes = make
    await begun(templates, place, vcpu_count=2)
    await begun(place.daemon(), place)


async def test_a_guest_that_does_not_answer_is_no_template(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_stages, "_READY_SECONDS", 0.05)

    async def mute(_template: Template, until_ready: UntilReady) -> None:
        async def nobody() -> Any:
            await asyncio.Future()

        await until_ready(nobody)

    place.boots.makes = mute
    spec = place.spec()
    assert await place.daemon().begin_from(place.host, spec) == spec


@pytest.mark.parametrize("full", ["its disk", "the lock's"])
async def test_a_full_disk_is_no_obstacle(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    monkeypatch.setattr(template_room, "_ROOM_MIB", 0)  # it fills up meanwhile

    async def large(template: Template, until_ready: UntilReady) -> None:
        await make(template, until_ready)
        template.memory.write_bytes(bytes(4 << 20))

    place.boots.makes = large
    spec = place.spec()
    with small_disk(tmp_path / "small", 1) as small:
        place.folder = small / "templates" if full == "its disk" else small / "file" / "templates"
        if full == "the lock's":
            (small / "file").touch()
        assert await place.daemon().begin_from(place.host, spec) == spec
        assert not place.folder.exists() or place.there() == set()


async def test_cancelling_leaves_nothing_and_the_next_one_tries_again(place: Place) -> None:
    reached = asyncio.Event()

    async def hang(template: Template, _until_ready: UntilReady) -> None:
        template.state.write_text("half of it")
        reached.set()
        await asyncio.Future()

    place.boots.makes = hang
    templates = place.daemon()
    making = asyncio.create_task(begun(templates, place))
    await reached.wait()
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert place.there() == set()
    assert not place.host.boot_slots.locked()
    place.boots.makes = make
    await begun(templates, place)


async def test_one_that_waits_for_a_making_that_is_cancelled_makes_it_itself(place: Place) -> None:
    reached = asyncio.Event()

    async def hang(_template: Template, _until_ready: UntilReady) -> None:
        place.boots.makes = make
        reached.set()
        await asyncio.Future()

    place.boots.makes = hang
    templates = place.daemon()
    first = asyncio.create_task(begun(templates, place))
    await reached.wait()
    second = asyncio.create_task(begun(templates, place))
    await until(lambda: any(lock._waiters for lock in templates._making.values()))
    first.cancel()
    assert (await second).state.read_text() == "the state"


async def test_what_a_daemon_that_was_killed_left_is_not_used_and_removed(place: Place) -> None:
    name = (await begun(place.daemon(), place)).folder.name
    whole = place.folder / name
    unfinished = whole.rename(place.folder / f"new-{name}")
    (place.folder / "new-another").mkdir()
    assert (await begun(place.daemon(), place)).folder == whole
    assert not unfinished.exists()
    assert place.there() == {name}
    assert len(place.boots.templates) == 2


async def test_a_making_waits_for_other_daemons(place: Place) -> None:
    place.folder.mkdir()
    with (place.folder / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        making = asyncio.create_task(begun(place.daemon(), place))
        await asyncio.sleep(0.05)
        assert place.boots.templates == []
        assert not place.host.boot_slots.locked(), "machines boot meanwhile"
    await making
    await until(lambda: len(place.boots.templates) == 1)
