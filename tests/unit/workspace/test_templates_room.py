"""Templates that the host's disk was in the way of are made as soon as it is not."""

import errno
import os
from pathlib import Path

import pytest

from pyro_mcp.errors import GuestFailed, HostUnfit
from pyro_mcp.images import disk
from pyro_mcp.vmm.template import Template, UntilReady
from pyro_mcp.workspace import template_room, template_trouble
from tests.support.fake_machine import make
from tests.support.fake_templates import Place, begun
from tests.support.small_disk import small_disk


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What may pass is tried again at once."""
    monkeypatch.setattr(template_room, "AGAIN_SECONDS", 0.0)


def _why(place: Place) -> str:
    trouble = template_trouble.noted(place.folder)
    assert trouble is not None
    return trouble.why


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(
    "error",
    [
        *(OSError(code, os.strerror(code)) for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)),
        *(HostUnfit(code, "no") for code in (disk.NO_SPACE, "cache_unwritable", "disk_failed")),
        GuestFailed("vmm_failed", "cannot write the memory: No space left on device (os error 28)"),
    ],
    ids=str,
)
async def test_trouble_of_the_disk_passes_and_is_said_once(
    place: Place, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_template: Template, _until_ready: UntilReady) -> None:
        raise error

    place.boots.makes = fail
    templates, spec = place.daemon(), place.spec()
    for _ in range(3):
        assert await templates.begin_from(place.host, spec) == spec
    assert len(caplog.records) == 1
    place.boots.makes = make
    await begun(templates, place)
    assert template_trouble.noted(place.folder) is None


async def test_it_is_not_tried_with_every_machine(place: Place) -> None:
    async def full(_template: Template, _until_ready: UntilReady) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    place.boots.makes = full
    templates, spec = place.daemon(), place.spec()
    for _ in range(3):
        assert await templates.begin_from(place.host, spec) == spec
    assert len(place.boots.templates) == 1
    assert _why(place) == f"{place.folder}: No space left on device"


@pytest.mark.usefixtures("soon")
async def test_what_was_no_trouble_of_the_disk_is_not_tried_again(place: Place) -> None:
    async def fail(_template: Template, _until_ready: UntilReady) -> None:
        raise GuestFailed("guest_gone", "it did not come up")

    place.boots.makes = fail
    templates, spec = place.daemon(), place.spec()
    for _ in range(3):
        assert await templates.begin_from(place.host, spec) == spec
    assert len(place.boots.templates) == 1


@pytest.mark.usefixtures("soon")
async def test_without_room_for_one_nothing_boots_for_it(place: Place, tmp_path: Path) -> None:
    templates, spec = place.daemon(), place.spec()
    with small_disk(tmp_path / "small", 1) as small:
        templates.folder = place.folder = small / "templates"
        for _ in range(2):
            assert await templates.begin_from(place.host, spec) == spec
        assert place.boots.templates == []
        assert _why(place).startswith(f"{place.folder}: a template needs 128 MiB, and ")
    templates.folder = place.folder = tmp_path / "templates"
    await begun(templates, place)


@pytest.mark.usefixtures("soon")
async def test_in_a_folder_that_cannot_be_written_nothing_boots_for_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    templates, spec = place.daemon(), place.spec()
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, _mode: path != place.folder)
        for _ in range(2):
            assert await templates.begin_from(place.host, spec) == spec
    assert place.boots.templates == []
    assert str(place.folder) in _why(place)
    await begun(templates, place)
