"""A machine whose template is damaged boots, and the template is made anew."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pyro_mcp import Pyro
from pyro_mcp.doctor import templates as doctor
from pyro_mcp.doctor.report import Status
from pyro_mcp.workspace.boot import TEMPLATE_GONE
from tests.vm.copies import RUN, created, says, says_in
from tests.vm.own_cache import trouble_with_templates
from tests.vm.pyro_command import PyroCommand


def without(name: str) -> Callable[[Path], None]:
    return lambda template: (template / name).unlink()


def resized(name: str, *sizes: Callable[[int], int]) -> Callable[[Path], None]:
    """Cut or lengthen a file to sizes that are told by what it has."""

    def damage(template: Path) -> None:
        file = template / name
        size = file.stat().st_size
        file.chmod(0o644)
        for new_size in sizes:
            os.truncate(file, new_size(size))

    return damage


def filled_with_rubbish(name: str) -> Callable[[Path], None]:
    def damage(template: Path) -> None:
        file = template / name
        size = file.stat().st_size
        file.unlink()
        file.write_bytes(os.urandom(size))

    return damage


DAMAGE = [
    pytest.param(without("memory"), id="no memory"),
    pytest.param(without("state"), id="no state"),
    pytest.param(resized("memory", lambda size: size // 2), id="half of the memory"),
    pytest.param(resized("memory", lambda size: size - 1), id="memory that is not whole pages"),
    pytest.param(resized("memory", lambda _: 0), id="empty memory"),
    pytest.param(resized("memory", lambda _: 0, lambda size: size), id="memory of zeroes"),
    pytest.param(filled_with_rubbish("memory"), id="memory of rubbish"),
    pytest.param(resized("state", lambda size: size // 2), id="half of the state"),
    pytest.param(resized("state", lambda _: 0), id="empty state"),
    pytest.param(filled_with_rubbish("state"), id="state of rubbish"),
    pytest.param(without("disk"), id="no disk"),
    pytest.param(resized("disk", lambda size: size // 2), id="half of the disk"),
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_template_is_thrown_away_and_the_machine_boots(
    harming: PyroCommand, template: Path, damage: Callable[[Path], None]
) -> None:
    damage(template)
    ended = harming(*RUN, "echo fine")
    assert (ended.exit_code, ended.stdout) == (0, b"fine\n"), ended.stderr
    assert ended.stderr.count(f"[run] {TEMPLATE_GONE}\n") == 1
    (trouble,) = trouble_with_templates(harming.home)
    assert f"the template {template.name} (debian:12, " in trouble
    assert not template.exists()


def test_memory_that_is_longer_than_the_guests_does_no_harm(harming: PyroCommand, template: Path) -> None:
    resized("memory", lambda size: 2 * size)(template)
    assert says(harming, "echo fine") == ["fine"]


@pytest.mark.parametrize("damage", [without("memory"), filled_with_rubbish("state")], ids=["missing", "rubbish"])
def test_a_workspace_boots_where_the_template_is_damaged(
    harming: PyroCommand, both_templates: tuple[Path, Path], damage: Callable[[Path], None], tmp_path: Path
) -> None:
    _, template = both_templates
    damage(template)
    seed = tmp_path / "seed"
    seed.mkdir()
    (seed / "text").write_text("one\n")
    sdk = Pyro(harming.client.settings)
    workspace = created(sdk, seed_path=seed)
    assert says_in(sdk, workspace, "cat text; cat /proc/sys/kernel/hostname") == ["one", workspace]
    assert len(trouble_with_templates(harming.home)) == 1
    assert not template.exists()


def test_the_next_machine_makes_a_template_in_place_of_the_damaged_one(harming: PyroCommand, template: Path) -> None:
    without("state")(template)
    assert says(harming, "echo fine") == ["fine"]
    assert not template.exists()
    assert says(harming, "echo fine") == ["fine"]
    assert template.exists()
    assert len(trouble_with_templates(harming.home)) == 1
    assert asyncio.run(doctor.examine(harming.client.settings)).status is Status.PASS
