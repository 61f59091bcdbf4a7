"""`pyro env`: what it asks of the SDK, what it prints where, and what it ends with."""

import json
from dataclasses import replace

import pytest

from pyro_mcp.cli.main import main
from pyro_mcp.models import (
    TemplateInfo,
)
from tests.unit.cli.fake_pyro import INSTALLED, FakePyro


def test_list_for_people(fake: FakePyro, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "list"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.split()[:3] == ["debian:12", "3.0", "MiB"]
    assert "not installed" in second
    assert first.index("what an agent") == second.index("minimal")


def test_list_for_programs(fake: FakePyro, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["installed"], row["size_bytes"]) for row in rows] == [
        ("debian:12", True, 3 << 20),
        ("debian:12-base", False, None),
    ]
    assert not {"contents", "templates"} & rows[0].keys()


def test_inspect_for_people(fake: FakePyro, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "inspect", "debian:12"]) == 0
    text = capsys.readouterr().out
    for part in ("sha256:abc", "3.0 MiB", "https://mirror.invalid/debian", "2026-01-02", "git 2.39"):
        assert part in text
    machine = "debian:12, 1 vCPU, 1024 MiB, qemu, for workspaces"
    saving = f"  {machine}: 130.0 MiB; saves 1.6 s per machine (0.12 s instead of 1.7 s)"
    unused = "no machine has begun from it yet; booting took 1.7 s"
    earlier = f"  {machine} (of another image of this name): 1.0 MiB; {unused}"
    assert f"templates:  2\n{saving}\n{earlier}\npackages:" in text
    assert main(["env", "inspect", "debian:12-base"]) == 0
    assert "pyro env pull debian:12-base" in capsys.readouterr().out


def test_templates_of_no_use_are_marked(
    fake: FakePyro, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    used, _ = INSTALLED.templates
    templates = (replace(used, unused="made elsewhere", saved_ms=None), TemplateInfo("4567", 1 << 20, "2026-01-03"))
    monkeypatch.setattr(fake, "inspect_environment", lambda _name: replace(INSTALLED, templates=templates))
    assert main(["env", "inspect", "debian:12"]) == 0
    assert used.facts is not None
    _, _, shown = capsys.readouterr().out.partition("templates:  2\n")
    assert shown.splitlines()[:2] == [
        f"  {used.facts.machine}: 130.0 MiB; unused: made elsewhere",
        "  4567: 1.0 MiB; what it is of is not known",
    ]


def test_inspect_for_programs(fake: FakePyro, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "inspect", "debian:12", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["contents"] == ["bash 5.2", "git 2.39"]
    used, unused = shown["templates"]
    assert (used["size_bytes"], used["saved_ms"], used["facts"]["boot_ms"]) == (130 << 20, 1612, 1730)
    assert (unused["saved_ms"], unused["facts"]["copy_ms"]) == (None, None)


def test_pull(fake: FakePyro, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "pull", "debian:12", "--source", "https://mirror.invalid/debian"]) == 0
    out, err = capsys.readouterr()
    assert fake.asked == [("debian:12", "https://mirror.invalid/debian")]
    assert "sha256:abc" in out
    assert err == "[pull] phase=download environment=debian:12\n"
    assert main(["env", "pull", "debian:12", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == "sha256:abc"
    assert fake.asked[-1] == ("debian:12", None)


def test_pull_of_an_unknown_environment(fake: FakePyro, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "pull", "nope"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "[unknown_environment]" in err


@pytest.mark.parametrize(("flags", "verb"), [([], "freed"), (["--dry-run"], "would free")])
def test_prune(fake: FakePyro, capsys: pytest.CaptureFixture[str], flags: list[str], verb: str) -> None:
    assert main(["env", "prune", *flags]) == 0
    out, err = capsys.readouterr()
    assert out == "debian:11\nstaging/x\n"
    assert err == f"{verb} 5.0 MiB ({5 << 20} bytes)\n"
    assert main(["env", "prune", "--json", *flags]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "removed": ["debian:11", "staging/x"],
        "freed_bytes": 5 << 20,
        "dry_run": bool(flags),
    }
