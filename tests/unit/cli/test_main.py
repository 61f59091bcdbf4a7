"""One command line at a time: what it asks of the SDK, what it prints where, and what it ends with."""

import argparse
import json
import sys
from collections.abc import Iterator

import pytest

from pyro_mcp.cli.main import COMMANDS, WITH_COMMAND, build_parser, main
from pyro_mcp.cli.parsing import load_all
from pyro_mcp.config import Settings
from pyro_mcp.daemon.client import DaemonClient
from pyro_mcp.images.catalog import CATALOG
from pyro_mcp.version import __version__
from tests.unit.cli.fake_pyro import FakePyro


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


@pytest.mark.parametrize("verb", [["run", "debian:12"], ["workspace", "exec", "demo"]], ids=" ".join)
@pytest.mark.parametrize("command", [[], ["--"], ["--", ""], ["--", "", "x"]], ids=repr)
def test_no_command(fake: FakePyro, capsys: pytest.CaptureFixture[str], verb: list[str], command: list[str]) -> None:
    assert main([*verb, *command]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first == "pyro: error: there is no command to run [no_command]"
    assert second.startswith(f"  hint: put the command behind `--`: pyro {verb[0]} ")
    assert fake.asked == []


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


@pytest.mark.parametrize(
    ("typed", "message", "hint"),
    [
        ("run debian:12 --timout-seconds 3 -- ls", "no flag --timout-seconds", "--timeout-seconds? see `pyro run -h`"),
        ("env pull debian:12 --sauce=x", "no flag --sauce", "--source? see `pyro env pull -h`"),
        (
            "workspace create debian:12 --seed x",
            "no flag --seed",
            "--seed-path or --seed-all? see `pyro workspace crea",
        ),
        (
            "workspace file read W a --maxbytes 3",
            "no flag --maxbytes",
            "--max-bytes? see `pyro workspace file read -h`",
        ),
        ("mcp serve --profle vm-run", "no flag --profle", "--profile? see `pyro mcp serve -h`"),
        ("workspace diff W --xyzzy", "no flag --xyzzy", "hint: see `pyro workspace diff -h`"),
        ("workspace diff W -x", "no flag -x", "hint: see `pyro workspace diff -h`"),
        ("workspace diff W more -", "unrecognized arguments: more -", "hint: see `pyro workspace diff -h`"),
        ("workspace list -- x", "`pyro workspace list` takes no command", "hint: see `pyro workspace list -h`"),
        ("workspace status demo -- ls", "`pyro workspace status` takes no command", "see `pyro workspace status -h`"),
        ("workspace diff W --xyzzy -- x", "no flag --xyzzy", "hint: see `pyro workspace diff -h`"),
        ("workspace file read W -- --", "stands there twice", "hint: a file called -- is ./--"),
        ("workspace export W a --output-path F", "no flag --output-path", "--output? see `pyro workspace export -h`"),
        ("workspace file write W a --txt=x", "no flag --txt", "--text? see `pyro workspace file write -h`"),
        ("workspace file write W --text -5", "are required: PATH", "hint: see `pyro workspace file write -h`"),
        ("workspace file read W -dash", "no flag -dash", "hint: see `pyro workspace file read -h`"),
        ("env --dry-run prune", "--dry-run stands too early", "hint: put it behind `pyro env prune`"),
        ("env inspect -- --json x", "takes no command", "hint: see `pyro env inspect -h`"),
        ("wrkspace list", "no command 'wrkspace'", "did you mean workspace? see `pyro -h`"),
        ("work", "no command 'work'", "did you mean workspace? see `pyro -h`"),
        ("workspace creat debian:12", "no command 'creat'", "did you mean create? see `pyro workspace -h`"),
        ("workspace ex W -- ls", "no command 'ex'", "did you mean exec or export? see `pyro workspace -h`"),
        ("workspace file raed W a", "no command 'raed'", "did you mean read? see `pyro workspace file -h`"),
        ("env xyzzy", "no command 'xyzzy'", "hint: see `pyro env -h`"),
        ("completion fish", "invalid choice: 'fish'", "hint: see `pyro completion -h`"),
    ],
)
def test_what_nothing_takes(capsys: pytest.CaptureFixture[str], typed: str, message: str, hint: str) -> None:
    assert main(typed.split()) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert message in first
    assert first.endswith(" [bad_usage]")
    assert hint in second


def test_the_dashes_with_nothing_behind_them_change_nothing(capsys: pytest.CaptureFixture[str], fake: FakePyro) -> None:
    assert main(["env", "list", "--"]) == 0
    assert "debian:12" in capsys.readouterr().out


def test_the_commands_with_a_command_for_a_guest_are_known_before_they_are_parsed() -> None:
    parser = build_parser(COMMANDS)
    load_all(parser)
    assert {path for path, leaf in _leaves(parser, ()) if leaf.get_default("command") == []} == set(WITH_COMMAND)


def _leaves(
    parser: argparse.ArgumentParser, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    yield path, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from _leaves(child, (*path, name))


def test_an_empty_command_name_is_like_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([""]) == 1
    assert capsys.readouterr().err == "pyro: error: there is no command '' [bad_usage]\n  hint: see `pyro -h`\n"


def test_the_json_flag_of_the_guests_command_is_not_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--nonsense", "--", "tool", "--json"]) == 1
    assert capsys.readouterr().err.startswith("pyro: error: ")


def test_a_bad_setting_is_an_error_with_a_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYRO_VMM", "nonsense")
    assert main(["env", "list"]) == 1
    assert "PYRO_VMM" in capsys.readouterr().err


REFUSED = {
    "unknown_environment": ("debian-12", [], ["true"]),
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
        assert "  hint: " in err
        assert "udcff" not in err
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
