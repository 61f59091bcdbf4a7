"""Progress is passed on without ever holding up the work that it tells of."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pyro_mcp.errors import HostUnfit, NotFound, SourceFailed
from pyro_mcp.images import debian, prune, pull, store
from pyro_mcp.images.store import Store
from pyro_mcp.models import EnvironmentInfo, Progress, PruneReport
from pyro_mcp.workspace.environments import ensure_installed, prune_environments, pull_environment
from pyro_mcp.workspace.templates import Templates

STEP = Progress("pull", "download", "debian:12")
INFO = EnvironmentInfo("debian:12", "about", True, ())


async def _ignore(_progress: Progress) -> None:
    pass


async def test_an_environment_that_is_installed_is_not_pulled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pulled: list[tuple[str, bool]] = []

    async def note(_images: object, name: str, *_: object, only_if_missing: bool) -> EnvironmentInfo:
        pulled.append((name, only_if_missing))
        return INFO

    monkeypatch.setattr(pull, "pull", note)
    monkeypatch.setattr(debian, "source", lambda: None)
    monkeypatch.setattr(store, "inspect", lambda _images, _name: INFO)
    await ensure_installed(Store(tmp_path), "debian:12", _ignore)
    assert pulled == []
    monkeypatch.setattr(store, "inspect", lambda _images, _name: replace(INFO, installed=False))
    await ensure_installed(Store(tmp_path), "debian:12", _ignore)
    assert pulled == [("debian:12", True)]


async def test_an_unknown_environment_is_refused_before_anything_happens(tmp_path: Path) -> None:
    for call in (
        ensure_installed(Store(tmp_path), "debian:13", _ignore),
        pull_environment(Store(tmp_path), "debian:13", None, _ignore),
    ):
        with pytest.raises(NotFound) as caught:
            await call
        assert caught.value.code == "unknown_environment"
    assert os.listdir(tmp_path) == []


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Progress]:
    """The steps that a pull will tell of, all at once."""
    told: list[Progress] = []

    async def work(_images: object, name: str, _source: object, tell: Callable[[Progress], None]) -> EnvironmentInfo:
        assert name == "debian:12"
        for step in told:
            tell(step)
        return INFO

    monkeypatch.setattr(pull, "pull", work)
    monkeypatch.setattr(debian, "source", lambda _url: None)
    return told


async def test_every_step_is_reported_in_order(tmp_path: Path, steps: list[Progress]) -> None:
    steps.extend(replace(STEP, done=number) for number in range(50))
    heard: list[Progress] = []

    async def report(progress: Progress) -> None:
        heard.append(progress)

    assert await pull_environment(Store(tmp_path), "debian:12", None, report) == INFO
    assert heard == steps


async def test_a_slow_watcher_misses_steps_but_never_the_last(tmp_path: Path, steps: list[Progress]) -> None:
    steps.extend(replace(STEP, done=number) for number in range(10_000))
    heard: list[Progress] = []

    async def report(progress: Progress) -> None:
        heard.append(progress)
        await asyncio.sleep(0)

    await pull_environment(Store(tmp_path), "debian:12", None, report)
    assert heard[-1] == steps[-1]
    assert len(heard) < 100


async def test_a_pull_that_fails_leaves_no_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> EnvironmentInfo:
        raise SourceFailed("download_failed", "the mirror is gone")

    monkeypatch.setattr(pull, "pull", fail)
    monkeypatch.setattr(debian, "source", lambda _url: None)
    with pytest.raises(SourceFailed):
        await pull_environment(Store(tmp_path), "debian:12", None, _ignore)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_watcher_that_fails_is_not_hidden(tmp_path: Path, steps: list[Progress]) -> None:
    steps.append(STEP)

    async def report(_progress: Progress) -> None:
        raise OSError("nobody listens")

    with pytest.raises(OSError, match="nobody listens"):
        await pull_environment(Store(tmp_path), "debian:12", None, report)
    assert asyncio.all_tasks() == {asyncio.current_task()}


def _prunes(
    monkeypatch: pytest.MonkeyPatch, images: PruneReport | HostUnfit, templates: PruneReport | HostUnfit
) -> None:
    async def found(result: PruneReport | HostUnfit) -> PruneReport:
        if isinstance(result, HostUnfit):
            raise result
        return result

    monkeypatch.setattr(prune, "prune", lambda _images, *, dry_run: found(images))
    monkeypatch.setattr(Templates, "prune", lambda _templates, *, dry_run: found(templates))


async def test_templates_and_images_are_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _prunes(monkeypatch, PruneReport(("image 1",), 2, False), PruneReport(("template 1",), 3, False))
    report = await prune_environments(Store(tmp_path), None, dry_run=False)
    assert report == PruneReport(("image 1", "template 1"), 5, False)


async def test_what_can_be_pruned_is_where_the_other_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = HostUnfit("cache_unwritable", "/cache cannot be written", "make it writable")
    done = PruneReport(("image 1",), 3 << 20, False)
    for images, templates in ((done, refused), (refused, done)):
        _prunes(monkeypatch, images, templates)
        with pytest.raises(HostUnfit) as caught:
            await prune_environments(Store(tmp_path), None, dry_run=False)
        assert (caught.value.code, caught.value.hint) == (refused.code, refused.hint)
        assert caught.value.message == "/cache cannot be written; removed: image 1 (3.0 MiB)"


async def test_templates_go_from_a_disk_that_is_too_full_for_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise HostUnfit("no_disk_space", "the disk is full")

    template = tmp_path / "templates" / "0123abcd"
    template.mkdir(parents=True)
    monkeypatch.setattr(Store, "prepare", full)
    with pytest.raises(HostUnfit, match="removed: template 0123abcd"):
        await prune_environments(Store(tmp_path), None, dry_run=False)
    assert not template.exists()
