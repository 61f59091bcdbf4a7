"""Templates that go: those that are broken, those that were not used for long, and all of them."""

import asyncio
import errno
import os
import shutil
from pathlib import Path

import pytest

from pyro_mcp.errors import HostUnfit
from pyro_mcp.images import locks
from pyro_mcp.vmm.template import Template, UntilReady
from pyro_mcp.workspace.template_stages import PREPARED
from tests.support.fake_machine import make
from tests.support.fake_templates import Place, begun


def _used(template: Template, at: int) -> None:
    os.utime(template.folder / "used", (at, at))


async def test_one_that_is_discarded_is_gone_and_a_daemon_does_not_make_it_over_and_over(place: Place) -> None:
    templates, spec = place.daemon(), place.spec()
    for _ in range(3):
        template = await begun(templates, place)
        await templates.discard(template, "why")
        assert place.there() == set()
    assert await templates.begin_from(place.host, spec) == spec
    assert len(place.boots.templates) == 3
    assert await begun(place.daemon(), place) == template, "the next daemon tries again"


async def test_one_that_is_discarded_twice(place: Place) -> None:
    templates = place.daemon()
    template = await begun(templates, place)
    await asyncio.gather(templates.discard(template, "why"), templates.discard(template, "why"))
    assert place.there() == set()


async def test_the_log_says_which_one_was_thrown_away(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    templates = place.daemon()
    known, unknown = await begun(templates, place), await begun(templates, place, PREPARED)
    (unknown.folder / "facts.json").write_text("{")
    for template, machine in (
        (known, "an image without a name, 1 vCPU, 512 MiB, fake, for workspaces"),
        (unknown, "of which nothing is known"),
    ):
        caplog.clear()
        await templates.discard(template, "it did not answer")
        (record,) = caplog.records
        said = f"from the template {template.folder.name} ({machine}), which is thrown away: it did not answer"
        assert said in record.getMessage()
        assert record.levelname == "WARNING"
        await templates.discard(template, "it did not answer")
        assert [each.levelname for each in caplog.records] == ["WARNING"], "nobody threw it away the second time"


async def test_eight_are_kept_and_those_used_last_longest(place: Place) -> None:
    templates = place.daemon()
    made = [await begun(templates, place, vcpu_count=count) for count in range(1, 9)]
    for at, template in enumerate(made):
        _used(template, at)
    assert await begun(templates, place, vcpu_count=1) == made[0]
    ninth = await begun(templates, place, vcpu_count=9)
    assert place.there() == {template.folder.name for template in (made[0], *made[2:], ninth)}


async def test_a_making_that_fails_costs_no_more_than_one(place: Place) -> None:
    templates = place.daemon()
    for count in range(1, 9):
        _used(await begun(templates, place, vcpu_count=count), count)

    async def fail(_template: Template, _until_ready: UntilReady) -> None:
        raise OSError("no")

    place.boots.makes = fail
    for count in (9, 10, 11):
        await templates.begin_from(place.host, place.spec(vcpu_count=count))
    assert len(place.there()) == 7


@pytest.mark.parametrize("dry_run", [True, False])
async def test_all_of_them_are_pruned(place: Place, dry_run: bool) -> None:
    templates = place.daemon()
    names = sorted([(await begun(templates, place, vcpu_count=count)).folder.name for count in (1, 2)])
    report = await templates.prune(dry_run=dry_run)
    assert report.removed == tuple(f"template {name}" for name in names)
    assert report.freed_bytes > 0
    assert report.dry_run == dry_run
    assert place.there() == (set(names) if dry_run else set())


async def test_after_pruning_they_are_made_again(place: Place) -> None:
    templates = place.daemon()
    template = await begun(templates, place)
    await templates.prune(dry_run=False)
    assert await begun(templates, place) == template
    assert len(place.boots.templates) == 2


async def test_where_there_are_none_nothing_is_pruned_and_nothing_made(place: Place) -> None:
    report = await place.daemon().prune(dry_run=False)
    assert (report.removed, report.freed_bytes) == ((), 0)
    assert not place.folder.exists()


async def test_pruning_waits_for_one_that_is_being_made(place: Place) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow(template: Template, until_ready: UntilReady) -> None:
        reached.set()
        await go_on.wait()
        await make(template, until_ready)

    place.boots.makes = slow
    templates = place.daemon()
    making = asyncio.create_task(begun(templates, place))
    await reached.wait()
    pruning = asyncio.create_task(templates.prune(dry_run=False))
    await asyncio.sleep(0.05)
    assert not pruning.done()
    go_on.set()
    template = await making
    assert (await pruning).removed == (f"template {template.folder.name}",)
    assert place.there() == set()


@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_lock_that_cannot_be_had_is_told_with_its_path(
    place: Place, monkeypatch: pytest.MonkeyPatch, dry_run: bool
) -> None:
    templates = place.daemon()
    template = await begun(templates, place)

    def refuse(path: Path, _on_wait: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(locks, "for_long", refuse)
    with pytest.raises(HostUnfit, match=f"{place.folder / 'lock'} cannot be written: Permission denied") as caught:
        await templates.prune(dry_run=dry_run)
    assert caught.value.code == "cache_unwritable"
    assert template.state.exists()


async def test_one_that_cannot_be_removed_keeps_no_other(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    templates = place.daemon()
    made = [await begun(templates, place, vcpu_count=count) for count in (1, 2, 3)]
    stays = min(made, key=lambda template: template.folder.name)
    really_remove = shutil.rmtree

    def refuse(folder: Path, *_: object, ignore_errors: bool = False) -> None:
        if folder != stays.folder:
            really_remove(folder)
        elif not ignore_errors:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(stays.memory))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(HostUnfit, match=str(stays.memory)) as caught:
        await templates.prune(dry_run=False)
    assert caught.value.code == "cache_unwritable"
    assert place.there() == {stays.folder.name}
    assert templates.infos() == (), "what is half removed is not whole"
    names = [f"template {template.folder.name}" for template in made if template != stays]
    _, _, removed = caught.value.message.partition("; removed: ")
    assert removed.startswith(", ".join(sorted(names)))


async def test_a_folder_that_cannot_be_changed_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    templates = place.daemon()
    template = await begun(templates, place)

    def refuse(folder: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    monkeypatch.setattr(os, "access", lambda path, _mode: path != place.folder)
    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(HostUnfit, match=f"{place.folder} cannot be written") as caught:
        await templates.prune(dry_run=False)
    assert caught.value.code == "cache_unwritable"
    assert template.folder.name not in caught.value.message
