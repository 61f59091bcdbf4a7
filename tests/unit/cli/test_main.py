"""One command line at a time: what it asks of the SDK, what it prints where, and what it ends with."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import pytest

from pyro_mcp import phases, sdk
from pyro_mcp.cli.main import COMMANDS, main
from pyro_mcp.config import Settings
from pyro_mcp.daemon.client import DaemonClient
from pyro_mcp.errors import NotFound
from pyro_mcp.events import OutputChunk
from pyro_mcp.images.catalog import CATALOG
from pyro_mcp.models import (
    EnvironmentInfo,
    Phase,
    Progress,
    PruneReport,
    RunFinished,
    RunRequest,
    TemplateFacts,
    TemplateInfo,
)
from pyro_mcp.version import __version__

MACHINE = ("qemu", 1, 1024, "2026-01-02T03:04:05Z")
INSTALLED = EnvironmentInfo(
    "debian:12",
    "what an agent reaches for",
    True,
    ("git",),
    digest="sha256:abc",
    size_bytes=3 << 20,
    source="https://mirror.invalid/debian",
    installed_at="2026-01-02T03:04:05Z",
    contents=("bash 5.2", "git 2.39"),
    templates=(
        TemplateInfo(
            "0123",
            130 << 20,
            "2026-01-03T03:04:05Z",
            TemplateFacts("debian:12", "sha256:abc", *MACHINE, 1730, 118),
            1612,
        ),
        TemplateInfo("4567", 1 << 20, "2026-01-03T03:04:05Z", TemplateFacts("debian:12", "sha256:old", *MACHINE, 1730)),
    ),
)
MISSING = EnvironmentInfo("debian:12-base", "minimal", False, ())


class FakeStream(list[object]):
    """A run that writes a little and ends with 3."""

    def __init__(self) -> None:
        super().__init__([OutputChunk("stdout", b"out\n"), RunFinished("debian:12", "qemu", 3, False, 1234)])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class FakePyro:
    """Answers like the SDK and notes what it was asked."""

    asked: list[tuple[Any, ...]]

    def list_environments(self) -> tuple[EnvironmentInfo, ...]:
        return (INSTALLED, MISSING)

    def inspect_environment(self, name: str) -> EnvironmentInfo:
        for info in (INSTALLED, MISSING):
            if info.name == name:
                return info
        raise NotFound("unknown_environment", f"there is no environment named {name!r}", "pyro env list")

    def pull_environment(
        self, name: str, *, source: str | None, on_progress: Callable[[Progress], None]
    ) -> EnvironmentInfo:
        self.asked.append((name, source))
        on_progress(Progress("pull", "download", name))
        return self.inspect_environment(name)

    def stream_in_vm(self, request: RunRequest) -> FakeStream:
        self.asked.append((request,))
        return FakeStream()

    def prune_environments(self, *, dry_run: bool) -> PruneReport:
        return PruneReport(("debian:11", "staging/x"), 5 << 20, dry_run)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakePyro:
    pyro = FakePyro()
    pyro.asked = []
    monkeypatch.setattr(sdk, "Pyro", lambda: pyro)
    return pyro


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr() == (f"pyro {__version__}\n", "")


def test_the_arguments_are_those_of_the_process_unless_given(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["pyro", "--version"])
    assert main() == 0
    assert __version__ in capsys.readouterr().out


def _help(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["env"],
        ["env", "list"],
        ["env", "inspect"],
        ["env", "pull"],
        ["env", "prune"],
        ["run"],
        ["doctor"],
        ["completion"],
        ["mcp"],
        ["mcp", "serve"],
        ["workspace"],
    ],
    ids=" ".join,
)
def test_every_help_ends_with_the_commands_to_type_next(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    text = _help([*words, "-h"], capsys)
    last = text.rstrip().splitlines()[-1]
    assert last.lstrip().startswith(("pyro ", "echo ")), last
    assert "pyro" in last
    assert max(map(len, text.splitlines())) <= 120


def test_the_top_level_help_lists_every_command_and_the_way_from_zero(capsys: pytest.CaptureFixture[str]) -> None:
    text = _help(["--help"], capsys)
    for command, summary in COMMANDS.items():
        assert command in text
        assert any(line.split(maxsplit=1) == [command, summary] for line in text.splitlines()), command
    steps = ("pyro doctor", "pyro env list", "pyro env pull", "pyro run", "pyro mcp serve", "claude mcp", "codex mcp")
    flow = ("workspace create", "workspace exec", "workspace diff", "workspace export", "workspace delete")
    path = [text.index(step) for step in (*steps, *flow)]
    assert path == sorted(path)


@pytest.mark.parametrize("action", ["list", "inspect", "pull", "prune"])
def test_the_help_of_an_action_says_what_it_does(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    listed = _help(["env", "-h"], capsys)
    summary = next(line.split(maxsplit=1)[1] for line in listed.splitlines() if line.split()[:1] == [action])
    assert f"\n{summary[0].upper()}{summary[1:]}.\n" in _help(["env", action, "-h"], capsys)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["--nonsense"],
        ["env"],
        ["env", "nonsense"],
        ["env", "inspect"],
        ["env", "list", "more"],
        ["env", "pull"],
        ["env", "prune", "--dry"],
        ["run"],
        ["run", "--", "ls"],
        ["run", "debian:12", "--nonsense"],
        ["env", "list", "--", "x"],
        ["doctor", "--", "foo"],
        ["completion", "bash", "--", "x"],
        ["run", "debian:12", "--mem-mib", "much", "--", "ls"],
        ["run", "debian:12", "--mem-mib", "--", "ls"],
        ["run", "debian:12", "--nonsense", "--", "ls"],
        ["run", "debian:12", "--vcpu", "2", "--", "ls"],
    ],
    ids=" ".join,
)
def test_usage_errors_have_a_code_and_a_hint(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert first.startswith("pyro: error: ")
    assert first.endswith("[bad_usage]")
    assert "-h`" in second


@pytest.mark.parametrize("command", [["ls"], ["ls", "-la"], ["git", "--version"]], ids=" ".join)
def test_a_command_that_does_not_stand_behind_the_dashes(
    fake: FakePyro, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert main(["run", "debian:12", *command]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert first.endswith("[no_command]")
    assert "behind `--`" in second
    assert fake.asked == []
    assert "usage: pyro run" in _help(["run", "debian:12", *command, "-h"], capsys)


def test_usage_errors_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "inspect", "--json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["error"]["code"] == "bad_usage"


def test_the_json_flag_of_the_guests_command_is_not_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--nonsense", "--", "tool", "--json"]) == 1
    assert capsys.readouterr().err.startswith("pyro: error: ")


def test_a_bad_setting_is_an_error_with_a_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYRO_VMM", "nonsense")
    assert main(["env", "list"]) == 1
    assert "PYRO_VMM" in capsys.readouterr().err


def test_run_for_people(fake: FakePyro, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "debian:12", "--mem-mib", "512", "--", "ls", "--json"]) == 3
    assert capfd.readouterr() == (
        "out\n",
        "[run] environment=debian:12 vmm=qemu exit_code=3 duration_ms=1234\n",
    )
    assert fake.asked == [(RunRequest("debian:12", ("ls", "--json"), mem_mib=512, stdin=True),)]


def test_a_run_tells_where_its_time_went_if_asked(
    fake: FakePyro, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Timed(FakeStream):
        def __init__(self) -> None:
            super().__init__()
            now = phases.now_us()
            self[-1] = replace(self[-1], phases=(Phase("host", now, now), Phase("command", now, now)))  # type: ignore[type-var]

    monkeypatch.setattr(fake, "stream_in_vm", lambda request: fake.asked.append((request,)) or Timed())  # type: ignore[func-returns-value]
    assert main(["run", "debian:12", "--timings", "--", "ls"]) == 3
    captured = capfd.readouterr()
    assert captured.out == "out\n"
    _, heading, *rows, total = captured.err.splitlines()
    assert heading.split() == ["ms", "phase"]
    assert [row.split()[1] for row in rows] == ["request", "host", "command", "delivery"]
    assert total.endswith("in all")
    assert main(["run", "debian:12", "--timings", "--json", "--", "ls"]) == 3
    result = json.loads(capfd.readouterr().out)
    assert [phase["phase"] for phase in result["timings"]["phases"]] == ["request", "host", "command", "delivery"]
    assert "phases" not in result
    assert [request.timings for (request,) in fake.asked] == [True, True]
    assert main(["run", "debian:12", "--json", "--", "ls"]) == 3
    assert {"phases", "timings"}.isdisjoint(json.loads(capfd.readouterr().out))


def test_a_time_out_is_told_to_people(
    fake: FakePyro, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class TimedOut(FakeStream):
        def __init__(self) -> None:
            super().__init__()
            self[:] = [RunFinished("debian:12", "qemu", 124, True, 7654)]

    monkeypatch.setattr(fake, "stream_in_vm", lambda _request: TimedOut())
    assert main(["run", "debian:12", "--timeout-seconds", "7", "--", "ls"]) == 124
    first, second = capfd.readouterr().err.splitlines()
    assert first == "pyro: the command reached its limit of 7 s; give it more with --timeout-seconds"
    assert second.startswith("[run] ")
    assert main(["run", "debian:12", "--json", "--", "ls"]) == 124
    assert capfd.readouterr().err == ""


def test_run_into_a_full_disk(
    fake: FakePyro, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open("/dev/full", "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert main(["run", "debian:12", "--", "ls"]) == 1
    assert capfd.readouterr().err == "pyro: error: cannot write the output: No space left on device [cannot_write]\n"


def test_run_with_words_and_errors_into_a_full_disk(
    fake: FakePyro, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Complaining(FakeStream):
        def __init__(self) -> None:
            super().__init__()
            self.insert(0, OutputChunk("stderr", b"oh\n"))

    monkeypatch.setattr(fake, "stream_in_vm", lambda _request: Complaining())
    with open("/dev/full", "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        assert main(["run", "debian:12", "--", "ls"]) == 3
    assert capfd.readouterr().out == "out\n"


def test_run_for_programs(fake: FakePyro, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "debian:12", "--json", "--", "ls", "é"]) == 3
    out, err = capfd.readouterr()
    assert err == ""
    assert json.loads(out) == {
        "environment": "debian:12",
        "vmm": "qemu",
        "exit_code": 3,
        "timed_out": False,
        "duration_ms": 1234,
        "stdout": "out\n",
        "stderr": "",
    }


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


REFUSED = {
    "unknown_environment": ("debian-12", [], ["true"]),
    "no_command": ("debian:12", [], []),
    "bad_command": ("debian:12", [], ["\udcff"]),
    "network_unsupported": ("debian:12", ["--network"], ["true"]),
    "out_of_range": ("debian:12", ["--mem-mib=1"], ["true"]),
}


def test_requests_that_a_daemon_refuses(
    capsys: pytest.CaptureFixture[str], daemon_client: DaemonClient, settings: Settings
) -> None:
    """A code, a hint, exit code 1, nothing on stdout, and nothing installed."""
    for code, (environment, flags, command) in REFUSED.items():
        assert main(["run", environment, *flags, "--", *command]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert f"[{code}]" in err
        assert main(["run", environment, *flags, "--json", "--", *command]) == 1
        assert json.loads(capsys.readouterr().err)["error"]["code"] == code
    wrong = ("--vcpu-count=33", "--vcpu-count=0", "--mem-mib=-1", "--timeout-seconds=0", "--ttl-seconds=99999999999999")
    for flag in wrong:
        assert main(["run", "debian:12", flag, "--", "true"]) == 1
        err = capsys.readouterr().err
        assert "[out_of_range]" in err
        assert flag.partition("=")[0] in err
    assert not (settings.cache_dir / "images").exists()


def test_the_catalog_from_a_daemon(capsys: pytest.CaptureFixture[str], daemon_client: DaemonClient) -> None:
    assert main(["env", "list", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == [each.name for each in CATALOG]
