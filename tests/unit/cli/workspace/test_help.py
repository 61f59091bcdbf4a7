"""What `-h` says of every verb, and what is no command line at all."""

import argparse

import pytest

from pyro_mcp.cli.main import build_parser, main
from pyro_mcp.cli.parsing import load_all

PATHS = (
    *("create", "list", "status", "update", "logs", "exec", "diff", "export"),
    *("sync", "sync push", "file", "file list", "file read", "file write", "patch", "patch apply"),
    *("reset", "stop", "start", "delete", "restore", "prune"),
)


def _help(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.mark.parametrize("path", PATHS)
def test_every_verb_ends_with_the_commands_to_type_next(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = _help(["workspace", *path.split(), "-h"], capsys)
    assert text.startswith(f"usage: pyro workspace {path} ")
    last = text.rstrip().splitlines()[-1]
    assert "pyro workspace " in last
    assert max(map(len, text.splitlines())) <= 120
    for word in ("--secret", "--publish "):
        assert word not in text


def test_what_the_examples_show_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    """Every line of every epilog parses, with W and EXEC_ID for what a user would put there."""
    parser = build_parser(["workspace"])
    load_all(parser)
    lines = [line.strip() for each in _all(parser) for line in (each.epilog or "").splitlines()]
    typed = [line for line in lines if line.startswith("pyro workspace ")]
    assert len(typed) > 40
    for line in typed:
        words = line.split("&&")[0].split(">")[0].split()[1:]
        own = words[: words.index("--")] if "--" in words else words
        build_parser(["workspace"]).parse_args([word.strip("'") for word in _unquoted(own)])


def _unquoted(words: list[str]) -> list[str]:
    import shlex

    return shlex.split(" ".join(words))


def _all(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    found = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                found += _all(child)
    return found


def test_the_summary_of_a_verb_is_the_same_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    listed = _help(["workspace", "-h"], capsys)
    for verb in (path for path in PATHS if " " not in path):
        summary = next(line.split(maxsplit=1)[1] for line in listed.splitlines() if line.split()[:1] == [verb])
        assert f"\n{summary[0].upper()}{summary[1:]}.\n" in _help(["workspace", verb, "-h"], capsys)


@pytest.mark.parametrize(
    "words",
    [
        ["workspace"],
        ["workspace", "nonsense"],
        ["workspace", "create"],
        ["workspace", "create", "debian:12", "--mem-mib", "much"],
        ["workspace", "create", "debian:12", "--network-policy", "all"],
        ["workspace", "create", "debian:12", "--secret", "A=B"],
        ["workspace", "list", "more"],
        ["workspace", "update", "w", "--name", "a", "--clear-name"],
        ["workspace", "logs", "w", "x", "--offset", "1", "--tail-bytes", "1"],
        ["workspace", "logs", "w", "--grep", "a"],
        ["workspace", "exec"],
        ["workspace", "exec", "w", "--timeout", "3", "--", "ls"],
        ["workspace", "sync"],
        ["workspace", "sync", "push", "w"],
        ["workspace", "file", "nonsense", "w"],
        ["workspace", "file", "write", "w", "a"],
        ["workspace", "file", "write", "w", "a", "--text", "a", "--text-file", "b"],
        ["workspace", "patch", "apply", "w"],
        ["workspace", "patch", "apply", "w", "--patch", "a", "--patch-file", "b"],
        ["workspace", "export", "w", "a"],
        ["workspace", "diff", "w", "--", "x"],
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
    assert "pyro" in second


def test_a_command_that_does_not_stand_behind_the_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["workspace", "exec", "demo", "ls"]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("[no_command]")
    assert second.endswith("pyro workspace exec W -- ls -la")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_every_verb(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("workspace", "create", "restore", "push", "apply", "--seed-path", "--tail-bytes", "--patch-file"):
        assert word in script, word
