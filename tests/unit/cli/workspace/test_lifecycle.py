"""Workspaces made, listed, changed and taken away from the command line: what is asked for and what is printed."""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from pyro_mcp.cli.main import main
from pyro_mcp.errors import Conflict, GuestFailed, NotFound
from pyro_mcp.models import Progress
from pyro_mcp.workspace_models import PrunedWorkspaces
from tests.support.fake_workspaces import DELETED, INFO
from tests.unit.cli.workspace.conftest import FakePyro

Captured = pytest.CaptureFixture[str]


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(asdict(value)))


def test_create_for_people(fake: FakePyro, capsys: Captured) -> None:
    def create(on_progress: Any) -> Any:
        on_progress(Progress("create", "boot", "debian:12"))
        return INFO

    fake.answers["create_workspace"] = create
    flags = ["--vcpu-count", "2", "--mem-mib", "512", "--ttl-seconds", "60", "--seed-path", "link", "--seed-all"]
    more = ["--name", "demo", "--label", "owner=me", "--label", "note=a=b", "--network-policy", "off"]
    assert main(["workspace", "create", "debian:12", *flags, *more]) == 0
    assert fake.asked == [
        (
            "create_workspace",
            {
                "environment": "debian:12",
                "vcpu_count": 2,
                "mem_mib": 512,
                "ttl_seconds": 60,
                "network_policy": "off",
                "seed_path": "link",
                "seed_all": True,
                "name": "demo",
                "labels": {"owner": "me", "note": "a=b"},
            },
        )
    ]
    out, err = capsys.readouterr()
    for part in ("w-2k7m", "demo", "running", "debian:12", "1024 MiB", "3 files, 4.0 KiB", "owner=me", "5.0 MiB"):
        assert part in out
    assert err == (
        "[create] phase=boot environment=debian:12\n"
        "[workspace] workspace_id=w-2k7m environment=debian:12 vmm=qemu seed_files=3 seed_bytes=4096\n"
    )


def test_create_for_programs(fake: FakePyro, capsys: Captured) -> None:
    fake.answers["create_workspace"] = replace(INFO, seed=None)
    assert main(["workspace", "create", "debian:12", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == _as_json(replace(INFO, seed=None))
    assert err == ""
    assert main(["workspace", "create", "debian:12", "--id-only"]) == 0
    assert capsys.readouterr() == ("w-2k7m\n", "")
    assert main(["workspace", "create", "debian:12"]) == 0
    assert "seed" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("label", ["novalue", "=value", "a=1 a=2", ""])
def test_labels_that_are_none(fake: FakePyro, capsys: Captured, label: str) -> None:
    flags = [word for each in label.split(" ") for word in ("--label", each)]
    for words in (["create", "debian:12"], ["update", "demo"]):
        assert main(["workspace", *words, *flags]) == 1
        assert "[bad_label]" in capsys.readouterr().err
    assert fake.asked == []


def test_list(fake: FakePyro, capsys: Captured) -> None:
    expired = replace(INFO, workspace_id="w-4abc", name=None, state="stopped", stopped_because="expired", labels={})
    fake.answers["list_workspaces"] = (INFO, expired)
    assert main(["workspace", "list"]) == 0
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split()[:4] == ["ID", "NAME", "STATE", "ENVIRONMENT"]
    assert first.split()[:4] == ["w-2k7m", "demo", "running", "debian:12"]
    assert "2026-01-02 03:04 UTC" in first
    assert first.endswith("owner=me")
    assert "stopped (expired)" in second
    assert first.index("debian:12") == second.index("debian:12") == heading.index("ENVIRONMENT")
    assert main(["workspace", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [_as_json(INFO), _as_json(expired)]
    assert [asked for _, asked in fake.asked] == [{"deleted": False}] * 2


def test_list_of_deleted_ones(fake: FakePyro, capsys: Captured) -> None:
    fake.answers["list_workspaces"] = (DELETED,)
    assert main(["workspace", "list", "--deleted"]) == 0
    _, line = capsys.readouterr().out.splitlines()
    assert line.split()[:3] == ["w-3k8n", "old", "debian:12"]
    assert line.endswith("2026-01-10 03:04 UTC")
    assert fake.asked == [("list_workspaces", {"deleted": True})]


@pytest.mark.parametrize("flags", [[], ["--deleted"]])
def test_an_empty_list_prints_no_data(fake: FakePyro, capsys: Captured, flags: list[str]) -> None:
    fake.answers["list_workspaces"] = ()
    assert main(["workspace", "list", *flags]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "there is no" in err
    assert main(["workspace", "list", "--json", *flags]) == 0
    assert capsys.readouterr() == ("[]\n", "")


def test_status_tells_what_it_takes_of_the_host(fake: FakePyro, capsys: Captured) -> None:
    fake.answers["workspace_status"] = replace(INFO, host_memory_bytes=45 << 20)
    assert main(["workspace", "status", "demo"]) == 0
    assert "host memory: 45.0 MiB\n" in capsys.readouterr().out


def test_status(fake: FakePyro, capsys: Captured) -> None:
    fake.answers["workspace_status"] = DELETED
    assert main(["workspace", "status", "old"]) == 0
    out = capsys.readouterr().out
    for part in ("w-3k8n", "state:       deleted", "recoverable: delete, until 2026-01-10 03:04 UTC"):
        assert part in out
    assert main(["workspace", "status", "old", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == _as_json(DELETED)


def test_update(fake: FakePyro, capsys: Captured) -> None:
    fake.answers["update_workspace"] = replace(INFO, name="new")
    assert main(["workspace", "update", "demo", "--name", "new", "--label", "a=b", "--clear-label", "owner"]) == 0
    assert "name:        new" in capsys.readouterr().out
    assert main(["workspace", "update", "new", "--clear-name", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "new"
    asked = {"workspace": "demo", "name": "new", "clear_name": False, "labels": {"a": "b"}, "clear_labels": ["owner"]}
    cleared: dict[str, object] = {
        "workspace": "new",
        "name": None,
        "clear_name": True,
        "labels": {},
        "clear_labels": [],
    }
    assert [given for _, given in fake.asked] == [asked, cleared]
    assert main(["workspace", "update", "demo"]) == 1
    assert "[nothing_to_change]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "call", "done"),
    [
        (["start", "demo"], ("start_workspace", {"workspace": "demo"}), "started"),
        (["stop", "demo"], ("stop_workspace", {"workspace": "demo"}), "stopped"),
        (["delete", "demo"], ("delete_workspace", {"workspace": "demo"}), "deleted"),
        (["reset", "demo"], ("reset_workspace", {"workspace": "demo", "snapshot": "baseline"}), "reset to baseline"),
        (["restore", "old"], ("restore_workspace", {"workspace": "old", "name": None}), "restored, running"),
        (
            ["restore", "old", "--name", "x"],
            ("restore_workspace", {"workspace": "old", "name": "x"}),
            "restored, running",
        ),
    ],
)
def test_changes(fake: FakePyro, capsys: Captured, words: list[str], call: tuple[str, object], done: str) -> None:
    fake.answers[call[0]] = replace(INFO, recoverable_until="2026-01-10T03:04:05+00:00")
    assert main(["workspace", *words]) == 0
    out, err = capsys.readouterr()
    assert out == f"w-2k7m (demo) {done}\n"
    undone = "[workspace] to get it back: pyro workspace restore w-2k7m (until 2026-01-10 03:04 UTC)\n"
    assert err == (undone if words[0] in ("delete", "reset") else "")
    assert main(["workspace", *words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["workspace_id"] == "w-2k7m"
    assert err == ""
    assert fake.asked == [call, call]


def test_a_workspace_without_a_name(fake: FakePyro, capsys: Captured) -> None:
    fake.answers["delete_workspace"] = replace(INFO, name=None)
    assert main(["workspace", "delete", "w-2k"]) == 0
    assert capsys.readouterr() == ("w-2k7m deleted\n", "[workspace] to get it back: pyro workspace restore w-2k7m\n")


@pytest.mark.parametrize(("flags", "verb"), [([], "freed"), (["--dry-run"], "would free")])
def test_prune(fake: FakePyro, capsys: Captured, flags: list[str], verb: str) -> None:
    fake.answers["prune_workspaces"] = PrunedWorkspaces(("workspace w-1", "disk of w-2"), 3 << 30, bool(flags))
    assert main(["workspace", "prune", *flags]) == 0
    assert capsys.readouterr() == (
        "workspace w-1\ndisk of w-2\n",
        f"{verb} 3.0 GiB ({3 << 30} bytes)\n",
    )
    assert main(["workspace", "prune", "old", "--json", *flags]) == 0
    assert json.loads(capsys.readouterr().out)["freed_bytes"] == 3 << 30
    assert [given["workspace"] for _, given in fake.asked] == [None, "old"]


ERRORS = [
    (NotFound("unknown_workspace", "there is no workspace 'dmeo'", "did you mean demo?"), 1),
    (Conflict("workspace_busy", "it is in use", "wait"), 1),
    (GuestFailed("guest_silent", "it does not answer", "look at the log"), 2),
]


@pytest.mark.parametrize(("error", "exit_code"), ERRORS)
@pytest.mark.parametrize("verb", ["status", "start", "stop", "delete", "reset", "restore"])
def test_errors(fake: FakePyro, capsys: Captured, verb: str, error: Any, exit_code: int) -> None:
    name = "workspace_status" if verb == "status" else f"{verb}_workspace"
    fake.answers[name] = error
    assert main(["workspace", verb, "dmeo"]) == exit_code
    assert capsys.readouterr() == ("", f"pyro: error: {error.message} [{error.code}]\n  hint: {error.hint}\n")
    assert main(["workspace", verb, "dmeo", "--json"]) == exit_code
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err) == {"error": {"code": error.code, "message": error.message, "hint": error.hint}}


def test_a_seed_path_that_is_not_utf8_travels_as_it_is(fake: FakePyro, tmp_path: Path) -> None:
    fake.answers["create_workspace"] = INFO
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    assert main(["workspace", "create", "debian:12", "--seed-path", path]) == 0
    assert fake.asked[0][1]["seed_path"] == path
