"""The doctor's word on templates."""

from dataclasses import replace
from pathlib import Path

from pyro_mcp.config import Settings
from pyro_mcp.doctor import templates
from pyro_mcp.doctor.report import Status
from pyro_mcp.models import TemplateFacts, TemplateInfo
from pyro_mcp.runtime.bundle import find_bundle
from pyro_mcp.workspace.template_trouble import NOT_MADE, Trouble, note
from pyro_mcp.workspace.template_use import OFF, OTHER
from tests.unit.doctor.small_bundle import make_bundle

FACTS = TemplateFacts("debian:12", "abc", "qemu", 1, 1024, "2026-01-02T03:04:05+00:00", boot_ms=1730, copy_ms=118)
INFO = TemplateInfo("0123", 130 << 20, "2026-01-02T03:04:05+00:00", FACTS, 1612)
OTHERS = replace(INFO, unused=OTHER, saved_ms=None)
TROUBLE = Trouble("0123", "bundle", "2026-01-02T03:04:05+00:00", NOT_MADE, "it did not come up\nits last words")


def test_what_one_saves() -> None:
    row = templates.row_for([INFO], None)
    assert row.status is Status.PASS
    assert row.found == f"1 is there, in 130 MiB; of {FACTS.machine}: saves 1.6 s per machine (0.12 s instead of 1.7 s)"
    assert row.details == (INFO,)


def test_of_many_that_was_used_last_which_is_known_to_save_something() -> None:
    unknown = replace(INFO, facts=None, saved_ms=None)
    unused = replace(INFO, facts=replace(FACTS, copy_ms=None, mem_mib=256))
    row = templates.row_for([unknown, unused, INFO, replace(INFO, facts=replace(FACTS, mem_mib=512))], None)
    assert row.found.startswith(
        "4 are there, in 520 MiB; of debian:12, 1 vCPU, 1024 MiB, qemu, for workspaces: saves 1.6 s"
    )
    assert "no machine has begun from it yet" in templates.row_for([unknown, unused], None).found


def test_what_is_not_known_is_said_with_what_mends_it() -> None:
    unknown = replace(INFO, facts=None, saved_ms=None)
    alone = templates.row_for([unknown], None)
    assert alone.found == "1 is there, in 130 MiB; nothing is known of 1, whose facts.json is missing or damaged"
    both = templates.row_for([INFO, unknown], None)
    assert "saves 1.6 s" in both.found
    for row in (alone, both):
        assert row.status is Status.WARN
        assert row.mend is not None
        assert "where machines still begin from one, the next mends it" in row.mend


def test_having_none_is_no_fault() -> None:
    row = templates.row_for([], None)
    assert (row.status, row.details) == (Status.PASS, ())


def test_trouble_is_told_with_what_mends_it() -> None:
    row = templates.row_for([INFO], TROUBLE)
    assert row.status is Status.WARN
    first, second, *why = row.found.splitlines()
    assert first.startswith("1 is there")
    assert NOT_MADE in second
    assert why == ["  | it did not come up", "  | its last words"]
    assert row.mend is not None
    assert row.mend.startswith("pyro env prune")
    assert row.details == (INFO,)


async def test_a_cache_that_is_not_there_stays_so(settings: Settings) -> None:
    assert (await templates.examine(settings)).status is Status.PASS
    assert not settings.cache_dir.exists()


def test_what_is_not_used_saves_nothing() -> None:
    assert templates.row_for([OTHERS], None).found == f"1 is there, in 130 MiB; 1 unused ({OTHER})"
    both = templates.row_for([OTHERS, INFO], None).found
    assert both.startswith(f"2 are there, in 260 MiB; 1 unused ({OTHER}); of {FACTS.machine}: saves")


async def test_trouble_of_this_bundle_is_found_but_not_where_they_are_off(settings: Settings, tmp_path: Path) -> None:
    settings = replace(settings, runtime_bundle_dir=make_bundle(tmp_path / "bundle"))
    folder = settings.cache_dir / "templates"
    folder.mkdir(parents=True)
    note(folder, "0123", find_bundle(settings).digest, NOT_MADE, "it did not come up")
    row = await templates.examine(settings)
    assert row.status is Status.WARN
    assert "it did not come up" in row.found
    off = await templates.examine(replace(settings, templates="off"))
    assert off.status is Status.PASS
    assert "PYRO_TEMPLATES" in off.found
    note(folder, "0123", "another", NOT_MADE, "it did not come up")
    assert (await templates.examine(settings)).status is Status.PASS
    note(folder, "0123", find_bundle(settings).digest, NOT_MADE, "it did not come up")
    without = replace(settings, runtime_bundle_dir=tmp_path / "nothing")
    assert (await templates.examine(without)).status is Status.PASS, "what is wrong is told in another row"


async def test_those_that_are_left_where_they_are_off_are_told(settings: Settings) -> None:
    folder = settings.cache_dir / "templates" / "0123"
    folder.mkdir(parents=True)
    (folder / "used").write_bytes(bytes(1 << 20))
    row = await templates.examine(replace(settings, templates="off"))
    assert row.found == "off, as PYRO_TEMPLATES says: every machine boots; 1 is there, in 1 MiB"
    assert [info.unused for info in row.details if isinstance(info, TemplateInfo)] == [OFF]
