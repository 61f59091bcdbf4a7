"""Templates that the machines of this host would not begin from are told from the others."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyro_mcp.errors import HostUnfit
from pyro_mcp.images import store
from pyro_mcp.images.pull import pull
from pyro_mcp.images.store import Store
from pyro_mcp.models import TemplateInfo
from pyro_mcp.workspace import template_use
from pyro_mcp.workspace.host import Host
from pyro_mcp.workspace.templates import Templates
from tests.support.fake_templates import Place, begun
from tests.unit.images.fake_source import FakeSource


@pytest.fixture
async def templates(place: Place, tmp_path: Path) -> Templates:
    """One of an installed image, from which a machine has begun."""
    images = Store(tmp_path / "cache")
    await pull(images, "debian:12", FakeSource(), lambda progress: None)
    place.host = replace(place.host, images=images)
    made = place.daemon()
    with await store.open_verified(images, "debian:12") as image:
        made.note_copy(await begun(made, place, image=image.path, vcpu_count=2), 0)
    return made


async def marked(templates: Templates, host: Host | Exception, *, off: bool = False) -> TemplateInfo:
    async def find_host(*, quiet: bool = False) -> Host:
        assert quiet, "nobody can be told its notice"
        if isinstance(host, Exception):
            raise host
        return host

    (info,) = await template_use.marked(templates.infos(), find_host, off=off)
    return info


async def test_one_that_is_used_saves_something(place: Place, templates: Templates) -> None:
    info = await marked(templates, place.host)
    assert info == templates.infos()[0]
    assert (info.unused, info.saved_ms is None) == (None, False)


def _with_bundle(host: Host) -> Host:
    bundle: Any = SimpleNamespace(**{**vars(host.bundle), "digest": "another"})
    return replace(host, bundle=bundle)


def _with_vmm(host: Host) -> Host:
    driver: Any = host.driver
    return replace(host, driver=replace(driver, name="another"))


def _with_cache(host: Host) -> Host:
    return replace(host, images=Store(host.images.cache_dir.with_name("moved")))


@pytest.mark.parametrize("another", [_with_bundle, _with_vmm, _with_cache], ids=["bundle", "VMM", "cache"])
async def test_one_of_another_host_saves_nothing(
    place: Place, templates: Templates, another: Callable[[Host], Host]
) -> None:
    info = await marked(templates, another(place.host))
    assert (info.unused, info.saved_ms) == (template_use.OTHER, None)
    assert info.facts is not None


async def test_where_they_are_off_none_is_used(templates: Templates) -> None:
    info = await marked(templates, HostUnfit("no_vmm", "nobody asks"), off=True)
    assert (info.unused, info.saved_ms) == (template_use.OFF, None)


async def test_where_no_machine_can_run_nothing_is_said(templates: Templates) -> None:
    assert (await marked(templates, HostUnfit("no_vmm", "there is none"))).unused is None


async def test_of_which_nothing_is_known_may_be_used(place: Place, templates: Templates) -> None:
    (info,) = templates.infos()
    (templates.folder / info.name / "facts.json").unlink()
    assert (await marked(templates, _with_bundle(place.host))).unused is None
