"""Templates are shown with their environment, and go when environments are pruned."""

import os
from dataclasses import replace
from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from pyro_mcp import models
from pyro_mcp.config import Settings
from pyro_mcp.daemon.app import Daemon, create_app
from pyro_mcp.errors import HostUnfit
from pyro_mcp.images.store import write_json
from pyro_mcp.models import EnvironmentInfo, TemplateFacts
from pyro_mcp.workspace.templates import Templates
from tests.unit.daemon.asking import ask

FACTS = TemplateFacts("debian:12", "abc", "qemu", 1, 1024, "2026-01-02T03:04:05+00:00", boot_ms=1730, copy_ms=118)


@pytest.fixture
def template(settings: Settings) -> Path:
    """One that is in the cache."""
    folder = settings.cache_dir / "templates" / "0123abcd"
    folder.mkdir(parents=True)
    (folder / "memory").write_bytes(b"x" * 5000)
    (folder / "used").touch()
    return folder


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("off", [True, False])
async def test_pruning_removes_templates_also_where_they_are_off(
    daemon: Daemon, template: Path, dry_run: bool, off: bool
) -> None:
    app = create_app(replace(daemon, templates=None if off else Templates(template.parent)))
    report = (await ask(app, "POST", "/v1/environments/prune", {"dry_run": dry_run})).json
    assert report["removed"] == ["template 0123abcd"]
    assert report["freed_bytes"] >= 5000
    assert report["dry_run"] == dry_run
    assert ("0123abcd" in os.listdir(template.parent)) == dry_run


async def _inspected(daemon: Daemon, environment: str) -> EnvironmentInfo:
    answer = await ask(create_app(daemon), "GET", f"/v1/environments/{environment}")
    return models.decode(EnvironmentInfo, answer.json)


async def test_an_environment_is_shown_with_its_templates_and_no_others(daemon: Daemon, template: Path) -> None:
    write_json(template / "facts.json", FACTS)
    (template.parent / "unknown").mkdir()
    (template.parent / "unknown" / "used").touch()
    unfit = AsyncMock(side_effect=HostUnfit("no_vmm", "it is not known which are used"))
    daemon = replace(daemon, templates=Templates(template.parent), find_host=unfit)
    shown, unknown = sorted((await _inspected(daemon, "debian:12")).templates, key=lambda info: info.name)
    assert (shown.name, shown.facts, shown.saved_ms, shown.unused) == ("0123abcd", FACTS, 1612, None)
    assert shown.size_bytes >= 5000
    assert (unknown.name, unknown.facts) == ("unknown", None)
    assert (await _inspected(daemon, "debian:12-base")).templates == (unknown,)


async def test_a_daemon_without_templates_tells_that_those_in_the_cache_are_not_used(
    daemon: Daemon, template: Path
) -> None:
    write_json(template / "facts.json", FACTS)
    (shown,) = (await _inspected(daemon, "debian:12")).templates
    assert (shown.facts, shown.saved_ms) == (FACTS, None)
    assert "PYRO_TEMPLATES" in (shown.unused or "")
