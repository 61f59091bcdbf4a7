"""What users type and programs import, pinned: a change here is a change of the contract (and of the changelog)."""

import argparse
import inspect
import subprocess
import sys
import tomllib
from importlib import import_module, metadata
from pathlib import Path

import pytest

import pyro_mcp
from pyro_mcp import Pyro, PyroError, errors, sdk
from pyro_mcp.cli.main import COMMANDS
from pyro_mcp.cli.parsing import HelpfulParser
from pyro_mcp.config import VMM_CHOICES, Settings

ROOT = Path(pyro_mcp.__file__).parents[2]

# Flags with their defaults, and positional names, of every command.
COMMAND_TREE: dict[str, dict[str, object]] = {
    "env list": {"--json": False},
    "env inspect": {"ENV": None, "--json": False},
    "env pull": {"ENV": None, "--source": None, "--json": False},
    "env prune": {"--dry-run": False, "--json": False},
    "run": {
        "ENV": None,
        "--vcpu-count": 1,
        "--mem-mib": 1024,
        "--timeout-seconds": 30,
        "--ttl-seconds": None,
        "--network": False,
        "--json": False,
    },
    "doctor": {"--environment": None, "--json": False},
    "completion": {"SHELL": None},
}


def _parsers(parser: argparse.ArgumentParser, path: str) -> dict[str, argparse.ArgumentParser]:
    """Every command that can be typed, below this one."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found: dict[str, argparse.ArgumentParser] = {}
            for name, child in action.choices.items():
                found |= _parsers(child, f"{path} {name}".strip())
            return found
    return {path: parser}


def _flags(parser: argparse.ArgumentParser) -> dict[str, object]:
    return {
        (action.option_strings[-1] if action.option_strings else str(action.metavar)): action.default
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction)
    }


def test_the_command_tree() -> None:
    tree: dict[str, dict[str, object]] = {}
    for verb in COMMANDS:
        parser = HelpfulParser(prog=f"pyro {verb}")
        import_module(f"pyro_mcp.cli.commands.{verb}").configure(parser)
        tree |= {path: _flags(each) for path, each in _parsers(parser, verb).items()}
    assert tree == COMMAND_TREE


def test_the_order_of_the_commands_in_the_help() -> None:
    """That of the contract, for those that there are."""
    contract = ("env", "mcp", "run", "workspace", "doctor", "demo", "completion")
    assert list(COMMANDS) == [verb for verb in contract if verb in COMMANDS]


# A completion script is for a shell to read, and for nobody else.
@pytest.mark.parametrize("path", sorted(COMMAND_TREE.keys() - {"completion"}))
def test_every_command_with_a_result_can_print_it_as_json(path: str) -> None:
    assert "--json" in COMMAND_TREE[path]


def test_the_names_that_programs_import() -> None:
    assert pyro_mcp.__all__ == ["Pyro", "PyroError", "__version__"]
    assert pyro_mcp.Pyro is sdk.Pyro
    assert pyro_mcp.PyroError is errors.PyroError
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        pyro_mcp.nonsense  # noqa: B018


def test_the_methods_of_pyro() -> None:
    methods = {
        name: str(inspect.signature(method)).partition(" ->")[0]
        for name, method in vars(Pyro).items()
        if not name.startswith("_")
    }
    assert methods == {
        "run_in_vm": (
            "(self, environment: str, command: collections.abc.Sequence[str], *, vcpu_count: int = 1, "
            "mem_mib: int = 1024, timeout_seconds: int = 30, ttl_seconds: int | None = None, network: bool = False, "
            "on_progress: collections.abc.Callable[[pyro_mcp.models.Progress], None] | None = None)"
        ),
        "stream_in_vm": "(self, request: pyro_mcp.models.RunRequest)",
        "list_environments": "(self)",
        "inspect_environment": "(self, environment: str)",
        "pull_environment": (
            "(self, environment: str, *, source: str | None = None, "
            "on_progress: collections.abc.Callable[[pyro_mcp.models.Progress], None] | None = None)"
        ),
        "prune_environments": "(self, *, dry_run: bool = False)",
    }


def test_the_sdk_and_the_command_line_have_the_same_defaults() -> None:
    parameters = inspect.signature(Pyro.run_in_vm).parameters
    for flag, default in COMMAND_TREE["run"].items():
        name = flag.removeprefix("--").replace("-", "_")
        if flag.startswith("--") and flag != "--json":
            assert parameters[name].default == default, flag


def test_the_errors_that_programs_catch() -> None:
    tree = {
        name: kind.__bases__[0].__name__
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, PyroError)
    }
    assert tree == {
        "PyroError": "Exception",
        "InvalidRequest": "PyroError",
        "NotFound": "PyroError",
        "Conflict": "PyroError",
        "HostUnfit": "PyroError",
        "SourceFailed": "PyroError",
        "CommandNotStarted": "PyroError",
        "Interrupted": "PyroError",
        "InternalError": "PyroError",
        "GuestFailed": "InternalError",
        "DaemonFailed": "InternalError",
    }


def test_the_variables() -> None:
    settings = Settings(Path("/h"), Path("/c"), Path("/b"), "qemu")
    assert settings.to_environment() == {
        "PYRO_HOME": "/h",
        "PYRO_CACHE_DIR": "/c",
        "PYRO_RUNTIME_BUNDLE_DIR": "/b",
        "PYRO_VMM": "qemu",
    }
    assert VMM_CHOICES == ("auto", "firecracker", "qemu")


def test_the_distribution_and_its_command() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (project["name"], project["license"], project["requires-python"]) == ("pyro-mcp", "MIT", ">=3.11")
    assert project["scripts"] == {"pyro": "pyro_mcp.cli.main:main"}
    assert metadata.version("pyro-mcp") == pyro_mcp.__version__


def test_the_installed_command() -> None:
    command = Path(sys.executable).with_name("pyro")
    ended = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert ended.stdout == f"pyro {pyro_mcp.__version__}\n"
