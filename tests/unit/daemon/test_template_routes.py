"""Templates go when environments are pruned."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.daemon.app import Daemon, create_app
from pyro_mcp.workspace.templates import Templates
from tests.unit.daemon.test_app import ask, daemon

__all__ = ("daemon",)


@pytest.fixture
def template(settings: Settings) -> Path:
    """One that is in the cache."""
    folder = settings.cache_dir / "templates" / "0123abcd"
    folder.mkdir(parents=True)
    (folder / "memory").write_bytes(b"x" * 5000)
    (folder / "used").touch()
    return folder


@pytest.mark.parametrize("dry_run", [True, False])
async def test_pruning_tells_of_templates_too(daemon: Daemon, template: Path, dry_run: bool) -> None:
    app = create_app(replace(daemon, templates=Templates(template.parent)))
    report = (await ask(app, "POST", "/v1/environments/prune", {"dry_run": dry_run})).json
    assert report["removed"] == ["template 0123abcd"]
    assert report["freed_bytes"] >= 5000
    assert report["dry_run"] == dry_run
    assert ("0123abcd" in os.listdir(template.parent)) == dry_run


async def test_a_daemon_without_templates_leaves_those_of_others_alone(daemon: Daemon, template: Path) -> None:
    report = (await ask(create_app(daemon), "POST", "/v1/environments/prune", {})).json
    assert report["removed"] == []
    assert os.listdir(template.parent) == ["0123abcd"]
