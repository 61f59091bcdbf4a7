"""A pull has the usual machine's template made, and succeeds whether or not that can be done."""

from dataclasses import replace
from pathlib import Path

import pytest

from pyro_mcp.errors import GuestFailed, HostUnfit
from pyro_mcp.images.pull import pull
from pyro_mcp.images.store import Store
from pyro_mcp.models import Progress, RunRequest
from pyro_mcp.workspace.boot import machine_spec
from pyro_mcp.workspace.host import Host
from pyro_mcp.workspace.prepare import prepare_usual_machine
from pyro_mcp.workspace.template_stages import PREPARED, WAITING
from tests.support.fake_templates import Place
from tests.unit.images.fake_source import FakeSource


class Steps:
    """What was reported."""

    def __init__(self) -> None:
        self.phases: list[str] = []

    async def __call__(self, progress: Progress) -> None:
        self.phases.append(progress.phase)


@pytest.fixture
async def host(place: Place, tmp_path: Path) -> Host:
    """One with an environment."""
    images = Store(tmp_path / "cache")
    await pull(images, "debian:12", FakeSource(), lambda progress: None)
    place.host = replace(place.host, images=images, templates=place.daemon())
    return place.host


async def _prepare(host: Host, environment: str = "debian:12") -> list[str]:
    async def find_host(*, quiet: bool = False) -> Host:
        assert quiet, "a pull has no notice of the host's to pass on"
        return host

    steps = Steps()
    await prepare_usual_machine(find_host, environment, steps)
    return steps.phases


async def test_what_a_command_begins_from_is_there_after_a_pull(host: Host, place: Place) -> None:
    assert await _prepare(host) == ["template"]
    usual = RunRequest("debian:12", ())
    shapes = {(made.vcpu_count, made.mem_mib) for made in place.boots.templates}
    assert shapes == {(usual.vcpu_count, usual.mem_mib)}
    assert host.templates is not None
    image = place.boots.templates[0].image
    spec = machine_spec(host, image, -1, vcpu_count=usual.vcpu_count, mem_mib=usual.mem_mib)
    for stage in (WAITING, PREPARED):
        assert (await host.templates.begin_from(host, spec, stage)).template is not None
    assert len(place.boots.templates) == 2


async def test_without_templates_there_is_nothing_to_do(host: Host, place: Place) -> None:
    assert await _prepare(replace(host, templates=None)) == []
    assert place.boots.templates == []


async def test_an_environment_that_is_gone_again_is_no_obstacle(
    host: Host, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    await _prepare(host, "debian:13")
    assert place.boots.templates == []
    assert "no template was made of debian:13" in caplog.text


async def test_a_guest_that_does_not_come_up_is_no_obstacle(host: Host, place: Place) -> None:
    async def fail(*_: object) -> None:
        raise GuestFailed("guest_gone", "no")

    place.boots.makes = fail
    await _prepare(host)
    assert place.there() == set()


@pytest.mark.parametrize("error", [HostUnfit("no_vmm", "there is no VMM"), OSError("there is no VMM")])
async def test_a_host_that_cannot_run_machines_is_no_obstacle(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def unfit(*, quiet: bool = False) -> Host:
        raise error

    steps = Steps()
    await prepare_usual_machine(unfit, "debian:12", steps)
    assert steps.phases == []
    assert "there is no VMM" in caplog.text
