"""What a template is of and what it saves is written down, and missed by nobody where it cannot be."""

import asyncio
import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from pyro_mcp.errors import PyroError
from pyro_mcp.images import store
from pyro_mcp.images.pull import pull
from pyro_mcp.images.store import Store
from pyro_mcp.models import TemplateFacts, TemplateInfo
from pyro_mcp.vmm.machine import OpenChannel
from pyro_mcp.vmm.template import Template
from pyro_mcp.workspace import boot
from pyro_mcp.workspace.boot import boot_guest
from pyro_mcp.workspace.template_facts import TimedBoot
from pyro_mcp.workspace.templates import Templates
from tests.support.fake_agent import AgentStream
from tests.support.fake_machine import answering, dead
from tests.support.fake_templates import Place, begun
from tests.unit.images.fake_source import FakeSource

_SLOW_SECONDS = 0.06
_SLOW_MS = 50


def _only(templates: Templates) -> TemplateInfo:
    (info,) = templates.infos()
    return info


def _facts(templates: Templates) -> TemplateFacts:
    facts = _only(templates).facts
    assert facts is not None
    return facts


async def _no_streams(_stream: AgentStream) -> None:
    pass


async def test_of_what_it_is(place: Place, tmp_path: Path) -> None:
    images = Store(tmp_path / "cache")
    await pull(images, "debian:12", FakeSource(), lambda progress: None)
    place.host = replace(place.host, images=images)
    with await store.open_verified(images, "debian:12") as image:
        templates = place.daemon()
        template = await begun(templates, place, image=image.path, vcpu_count=2)
        facts = _facts(templates)
    assert facts == TemplateFacts("debian:12", image.digest, "fake", 2, 512, facts.made_at, facts.boot_ms)
    info = _only(templates)
    assert info.name == template.folder.name
    assert info.size_bytes == store.disk_usage(template.folder) > 0
    assert (info.saved_ms, facts.made_at <= info.used_at) == (None, True)


async def test_of_an_image_without_a_name(place: Place) -> None:
    templates = place.daemon()
    await begun(templates, place)
    assert (_facts(templates).environment, _facts(templates).digest) == (None, None)


async def test_its_boot_takes_until_its_agent_answers_first() -> None:
    async def slow(_open_channel: OpenChannel) -> None:
        await asyncio.sleep(_SLOW_SECONDS)

    async def nobody() -> socket.socket:
        raise ConnectionRefusedError

    boot = TimedBoot(slow)
    await boot.until_ready(nobody)
    took_ms = boot.ms
    assert took_ms is not None
    assert took_ms >= _SLOW_MS
    await boot.until_ready(nobody)
    assert boot.ms == took_ms


async def test_a_machine_that_begins_from_it_is_timed(place: Place, disks: list[int]) -> None:
    templates = place.daemon()
    host = replace(place.host, templates=templates)
    place.boots.guests = [answering(_no_streams)]
    async with boot_guest(host, place.image, vcpu_count=1, mem_mib=512):
        pass
    facts = _facts(templates)
    assert facts.copy_ms is not None
    assert facts.boot_ms is not None
    assert _only(templates).saved_ms == facts.boot_ms - facts.copy_ms


async def test_one_that_fails_to_is_not(place: Place, disks: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot, "_READY_SECONDS", 0.2)
    monkeypatch.setattr(boot, "_LAST_READY_SECONDS", 0.2)
    timed = []
    monkeypatch.setattr(Templates, "note_copy", lambda *noted: timed.append(noted))
    place.boots.guests = [dead]
    with pytest.raises(PyroError):
        async with boot_guest(replace(place.host, templates=place.daemon()), place.image, vcpu_count=1, mem_mib=512):
            pass
    assert timed == []


async def test_the_quickest_copy_counts_of_the_first_ten_of_each_daemons_life(place: Place) -> None:
    for took_ms, known in (([300, 100, 400], [300, 100, 100]), ([310, 90], [100, 90]), ([95] * 10 + [1], [90] * 11)):
        templates = place.daemon()
        template = await begun(templates, place)
        noted = []
        for each in took_ms:
            templates.note_copy(template, each)
            noted.append(_facts(templates).copy_ms)
        assert noted == known


def _written(**changed: object) -> bytes:
    facts = TemplateFacts("debian:12", "abc", "qemu", 1, 1024, "2026-01-02T03:04:05+00:00", boot_ms=1730, copy_ms=118)
    return json.dumps({**vars(facts), **changed}).encode()


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"\xff", b'{"vmm": "qemu", "later": 1}', b"[" * 100_000, None),
        *(_written(environment="\x1b[2J"), _written(vmm="qemu\n"), _written(made_at="x" * 1000)),
        *(_written(boot_ms=10**400), _written(mem_mib=-1)),
    ],
)
async def test_what_cannot_be_read_is_not_known(place: Place, content: bytes | None) -> None:
    templates = place.daemon()
    template = await begun(templates, place)
    file = template.folder / "facts.json"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    for _ in range(3):
        templates.note_copy(template, 100)
    info = _only(templates)
    assert (info.facts, info.saved_ms) == (None, None)
    assert info.size_bytes > 0


async def test_what_was_damaged_is_known_again_when_a_machine_begins_from_it(place: Place) -> None:
    whole = _facts(place.daemon()) if await begun(place.daemon(), place) else None
    (file,) = place.folder.glob("*/facts.json")
    file.write_text("{")
    templates = place.daemon()
    await begun(templates, place)
    assert whole is not None
    assert _facts(templates) == replace(whole, made_at=_facts(templates).made_at, boot_ms=None)
    templates.note_copy(Template(file.parent), 100)
    assert (_facts(templates).copy_ms, _only(templates).saved_ms) == (100, None)


async def test_also_in_the_same_daemons_life_and_then_its_copies_are_timed_again(place: Place) -> None:
    templates = place.daemon()
    for content in (None, "", "{"):
        template = await begun(templates, place)
        assert _facts(templates).vmm == "fake"
        for took_ms in range(100, 120):
            templates.note_copy(template, took_ms)
        assert _facts(templates).copy_ms == 100
        file = template.folder / "facts.json"
        file.unlink() if content is None else file.write_text(content)
        assert _only(templates).facts is None


async def test_a_template_that_was_removed_meanwhile_is_no_error(place: Place) -> None:
    templates = place.daemon()
    template = await begun(templates, place)
    await templates.prune(dry_run=False)
    templates.note_copy(template, 100)
    assert templates.infos() == ()
    assert place.there() == set()


async def test_the_one_used_last_is_the_first_and_half_made_ones_are_none(place: Place) -> None:
    templates = place.daemon()
    for count, used in ((1, 20), (2, 10)):
        os.utime((await begun(templates, place, vcpu_count=count)).folder / "used", (used, used))
    (place.folder / "new-half").mkdir()
    (place.folder / "empty").mkdir()
    assert [info.facts and info.facts.vcpu_count for info in templates.infos()] == [1, 2]


def test_where_there_never_was_one(place: Place) -> None:
    assert place.daemon().infos() == ()
    assert not place.folder.exists()
