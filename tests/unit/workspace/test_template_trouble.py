"""What went wrong with templates is known until it is mended."""

import pytest

from pyro_mcp.errors import GuestFailed
from pyro_mcp.vmm.template import Template, UntilReady
from pyro_mcp.workspace import template_trouble
from pyro_mcp.workspace.template_trouble import DISCARDED, NOT_MADE
from tests.support.fake_machine import make
from tests.support.fake_templates import Place, begun


async def _fail(_template: Template, _until_ready: UntilReady) -> None:
    raise GuestFailed("guest_gone", f"it did not come up{'!' * 10_000}")


async def _one_that_fails(place: Place) -> None:
    place.boots.makes = _fail
    await place.daemon().begin_from(place.host, place.spec())
    place.boots.makes = make


async def test_why_none_could_be_made(place: Place) -> None:
    await _one_that_fails(place)
    trouble = template_trouble.noted(place.folder)
    assert trouble is not None
    assert trouble.what == NOT_MADE
    assert trouble.why.startswith("it did not come up!")
    assert len(trouble.why) == 500


async def test_why_one_was_thrown_away_until_it_is_made_again(place: Place) -> None:
    templates = place.daemon()
    template = await begun(templates, place)
    await templates.discard(template, "it did not answer")
    await begun(templates, place, vcpu_count=2)
    trouble = template_trouble.noted(place.folder)
    assert trouble is not None
    assert (trouble.name, trouble.what, trouble.why) == (template.folder.name, DISCARDED, "it did not answer")
    assert trouble.bundle == place.host.bundle.digest
    await begun(templates, place)
    assert template_trouble.noted(place.folder) is None


async def test_after_pruning_it_is_forgotten_and_tried_again(place: Place) -> None:
    place.boots.makes = _fail
    templates, spec = place.daemon(), place.spec()
    assert await templates.begin_from(place.host, spec) == spec
    place.boots.makes = make
    await templates.prune(dry_run=True)
    assert template_trouble.noted(place.folder) is not None
    assert await templates.begin_from(place.host, spec) == spec
    await templates.prune(dry_run=False)
    assert template_trouble.noted(place.folder) is None
    await begun(templates, place)


async def test_what_somebody_wrote_there_is_harmless_to_a_terminal(place: Place) -> None:
    await _one_that_fails(place)
    file = place.folder / "trouble.json"
    file.write_text(file.read_text().replace("it did not come up", r"\u001b[2Jgone\nindeed"))
    trouble = template_trouble.noted(place.folder)
    assert trouble is not None
    assert trouble.why.startswith("\ufffd[2Jgone\nindeed")


@pytest.mark.parametrize("content", ["", "{}", "[]"])
async def test_what_cannot_be_read_is_no_trouble(place: Place, content: str) -> None:
    await _one_that_fails(place)
    (place.folder / "trouble.json").write_text(content)
    assert template_trouble.noted(place.folder) is None


async def test_where_it_cannot_be_noted_nothing_else_fails(place: Place) -> None:
    place.folder.mkdir()
    (place.folder / "trouble.json").mkdir()
    await _one_that_fails(place)
    await place.daemon().prune(dry_run=False)
    await begun(place.daemon(), place)
