"""`pyro` as a process of its own: start-up, exit codes, and whose output goes where."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.daemon.client import DaemonClient
from pyro_mcp.version import __version__

PYRO = [sys.executable, "-c", "import sys; from pyro_mcp.cli.main import main; sys.exit(main())"]


def _pyro(*words: str, stdout: int = subprocess.PIPE) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*PYRO, *words], stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=100, check=False)


def _modules_after(*words: str) -> set[str]:
    """What was imported by the time the command had done its work."""
    script = (
        "import sys\n"
        "from pyro_mcp.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)\n"
    )
    # Measuring coverage imports a lot by itself.
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    ended = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, check=True, env=unmeasured
    )
    return set(ended.stderr.split())


def _heavy(modules: set[str], names: Sequence[str]) -> set[str]:
    return modules & set(names)


HEAVY = ("asyncio", "http.client", "email", "ssl", "subprocess", "starlette", "uvicorn", "anyio", "h11", "mcp", "shtab")


def test_version_imports_nothing() -> None:
    modules = _modules_after("--version")
    assert (
        _heavy(
            modules,
            ["argparse", "asyncio", "http", "http.client", "json", "starlette", "dataclasses", "pathlib", "typing"],
        )
        == set()
    )
    assert {name for name in modules if name.startswith("pyro_mcp")} <= {
        "pyro_mcp",
        "pyro_mcp.cli",
        "pyro_mcp.cli.main",
        "pyro_mcp.cli.streams",
        "pyro_mcp.version",
    }


@pytest.mark.parametrize(
    "words",
    [
        ["run", "-h"],
        ["env", "-h"],
        ["-h"],
        ["env", "pull", "-h"],
        ["workspace", "--help"],
        ["workspace", "create", "-h"],
        ["workspace", "file", "-h"],
        ["mcp", "serve", "-h"],
    ],
    ids=" ".join,
)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    modules = _modules_after(*words)
    assert _heavy(modules, [*HEAVY, "pyro_mcp.sdk", "pyro_mcp.models", "pyro_mcp.workspace_models"]) == set()


def test_only_the_verb_that_is_typed_is_imported() -> None:
    of_workspace = {name for name in _modules_after("workspace", "file", "read", "-h") if ".commands.workspace" in name}
    package = "pyro_mcp.cli.commands.workspace"
    assert of_workspace == {package, f"{package}.file", f"{package}.file.read"}


def test_talking_to_a_daemon_that_runs_imports_no_server(daemon_client: DaemonClient) -> None:
    daemon_client.ask("GET", "/v1/hello")
    modules = _modules_after("env", "list")
    assert "pyro_mcp.daemon.client" in modules
    assert _heavy(modules, HEAVY) == set()
    modules = _modules_after("workspace", "list")
    assert "pyro_mcp.sdk.workspaces" in modules
    assert _heavy(modules, HEAVY) == set()


def test_a_command_imports_no_classes_but_those_of_its_topic(daemon_client: DaemonClient) -> None:
    """They take long to make (see `pyro_mcp.late`), and `workspace list` is promised to be quick."""
    daemon_client.ask("GET", "/v1/hello")
    modules = _modules_after("workspace", "list")
    topics = {name for name in modules if name.startswith(("pyro_mcp.models.", "pyro_mcp.workspace_models."))}
    assert topics == {
        *("pyro_mcp.models.codec", "pyro_mcp.models.event"),
        *("pyro_mcp.workspace_models.constants", "pyro_mcp.workspace_models.info"),
    }
    assert _heavy(modules, ["pyro_mcp.events", "pyro_mcp.guest", "pyro_mcp.sdk.command_stream"]) == set()


def test_version() -> None:
    ended = _pyro("--version")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"pyro {__version__}\n", "")


@pytest.mark.parametrize("words", [[], ["nonsense"], ["run"], ["env"]], ids=" ".join)
def test_usage_errors(words: list[str]) -> None:
    ended = _pyro(*words)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "[bad_usage]" in ended.stderr


@pytest.mark.parametrize("typed", ["abc", "", "1_024", "٣٢١", "1.5", "+1", " 1", "--1", "9" * 5000])
def test_what_is_no_whole_number(typed: str) -> None:
    ended = _pyro("run", f"--mem-mib={typed}", "debian:12", "--", "true")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert len(ended.stderr) < 300
    assert f"argument --mem-mib: {typed[:40]!r} is no whole number" in ended.stderr


INTERRUPTED_WHILE_IMPORTING = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, *_):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
from pyro_mcp.cli.main import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("module", ["failure", "parsing", "commands.env"])
@pytest.mark.parametrize("flags", [[], ["--json"]], ids=" ".join)
def test_an_interrupt_at_the_very_start(module: str, flags: list[str]) -> None:
    script = [sys.executable, "-c", INTERRUPTED_WHILE_IMPORTING, f"pyro_mcp.cli.{module}", "env", "list", *flags]
    ended = subprocess.run(script, capture_output=True, text=True, timeout=100, check=False)
    assert (ended.returncode, ended.stdout) == (130, "")
    if flags:
        assert json.loads(ended.stderr)["error"] == {"code": "interrupted", "message": "interrupted", "hint": None}
    else:
        assert ended.stderr == "pyro: error: interrupted [interrupted]\n"


def test_a_request_of_a_fresh_user(daemon_client: DaemonClient, settings: Settings) -> None:
    ended = _pyro("run", "debian-12", "--json", "--", "true")
    assert (ended.returncode, ended.stdout) == (1, "")
    error = json.loads(ended.stderr)["error"]
    assert error["code"] == "unknown_environment"
    assert "debian:12" in error["hint"]
    listed = _pyro("env", "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "debian:12-build" in listed.stdout


def test_a_reader_that_went_away(daemon_client: DaemonClient) -> None:
    daemon_client.ask("GET", "/v1/hello")
    reader, writer = os.pipe()
    os.close(reader)
    ended = _pyro("env", "list", stdout=writer)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_help_for_a_reader_that_went_away() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended = _pyro("-h", stdout=writer)
    os.close(writer)
    assert ended.returncode in (0, 141)
    assert ended.stderr == ""


CANNOT_WRITE = "pyro: error: cannot write the output: No space left on device [cannot_write]\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["--version"], ["-h"], ["env", "list"], ["completion", "bash"]], ids=" ".join)
def test_a_disk_that_is_full_is_told(
    daemon_client: DaemonClient, monkeypatch: pytest.MonkeyPatch, words: list[str], unbuffered: str
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with Path("/dev/full").open("w") as full:
        ended = _pyro(*words, stdout=full.fileno())
    assert (ended.returncode, ended.stderr) == (1, CANNOT_WRITE)


def _in_a_shell(words: str, redirection: str) -> "subprocess.CompletedProcess[str]":
    script = f'exec "$@" {words} {redirection}'
    return subprocess.run(["sh", "-c", script, "sh", *PYRO], capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize(
    ("words", "redirection", "exit_code", "stdout", "stderr"),
    [
        ("--version", "2>&-", 0, f"pyro {__version__}\n", ""),
        ("--version", ">&-", 0, "", ""),
        ("--version", "<&- >&- 2>&-", 0, "", ""),
        ("nonsense", "2>&-", 1, "", ""),
        ("nonsense", "2>/dev/full", 1, "", ""),
        ("--version", ">/dev/full 2>/dev/full", 1, "", ""),
        ("completion nonsense", "<&- 2>&-", 1, "", ""),
        ("-h", ">&-", 0, "", ""),
    ],
)
def test_streams_that_are_closed_or_full(
    words: str, redirection: str, exit_code: int, stdout: str, stderr: str
) -> None:
    ended = _in_a_shell(words, redirection)
    assert (ended.returncode, ended.stdout, ended.stderr) == (exit_code, stdout, stderr)


def test_a_request_without_any_stream(daemon_client: DaemonClient) -> None:
    ended = _in_a_shell("env inspect debian:11", "<&- >&- 2>&-")
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", "")
    ended = _in_a_shell("env list", "<&- 2>&-")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "debian:12-build" in ended.stdout


def test_progress_on_a_terminal_is_a_bar() -> None:
    script = (
        "from pyro_mcp.cli.progress import ProgressPrinter\n"
        "from pyro_mcp.models import Progress\n"
        "printer = ProgressPrinter()\n"
        "printer.show(Progress('pull', 'download', 'debian:12', done=1, total=2))\n"
        "printer.clear()\n"
    )
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", script], stderr=theirs, check=True)
    shown = os.read(ours, 10000).decode()
    os.close(ours)
    os.close(theirs)
    assert "############............" in shown
    assert "50%" in shown
    assert shown.endswith("\r\x1b[K")
    assert "\n" not in shown


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("r", "run"), ("env pu", "pull"), ("run --vcpu", "--vcpu-count"), ("env prune --d", "--dry-run")],
)
def test_bash_completes_commands_actions_and_flags(tmp_path: Path, typed: str, completed: str) -> None:
    script = tmp_path / "pyro.bash"
    script.write_text(_pyro("completion", "bash").stdout)
    asked = f"source {script}; COMP_WORDS=(pyro {typed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _shtab_pyro; "
    ended = subprocess.run(["bash", "-c", asked + "echo ${COMPREPLY[@]}"], check=True, capture_output=True, text=True)
    assert completed in ended.stdout.split()
