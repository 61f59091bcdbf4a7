"""What users type and programs import, pinned: a change here is a change of the contract (and of the changelog)."""

import argparse
import inspect
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path

import pytest

import pyro_mcp
from pyro_mcp import AsyncPyro, Pyro, PyroError, errors, sdk
from pyro_mcp.cli.main import COMMANDS
from pyro_mcp.cli.parsing import HelpfulParser, load_all
from pyro_mcp.config import MOST_READY, SWITCH, VMM_CHOICES, Settings

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
        "--timings": False,
        "--json": False,
    },
    "mcp serve": {"--profile": "workspace-core", "--allow-path": [], "--network-policy": "off"},
    "workspace create": {
        "ENV": None,
        "--vcpu-count": 1,
        "--mem-mib": 1024,
        "--ttl-seconds": None,
        "--network-policy": "off",
        "--seed-path": None,
        "--seed-all": False,
        "--name": None,
        "--label": [],
        "--id-only": False,
        "--json": False,
    },
    "workspace list": {"--deleted": False, "--json": False},
    "workspace status": {"W": None, "--json": False},
    "workspace update": {
        "W": None,
        "--name": None,
        "--clear-name": False,
        "--label": [],
        "--clear-label": [],
        "--json": False,
    },
    "workspace logs": {
        "W": None,
        "EXEC_ID": None,
        "--offset": None,
        "--tail-bytes": None,
        "--limit": None,
        "--grep": None,
        "--json": False,
    },
    "workspace exec": {"W": None, "--timeout-seconds": 30, "--json": False},
    "workspace sync push": {"W": None, "DIR": None, "--dest": "/workspace", "--all": False, "--json": False},
    "workspace file list": {"W": None, "PATH": "/workspace", "--recursive": False, "--json": False},
    "workspace file read": {"W": None, "PATH": None, "--max-bytes": 1 << 20, "--content-only": False, "--json": False},
    "workspace file write": {"W": None, "PATH": None, "--text": None, "--text-file": None, "--json": False},
    "workspace patch apply": {"W": None, "--patch": None, "--patch-file": None, "--json": False},
    "workspace diff": {"W": None, "--json": False},
    "workspace export": {"W": None, "PATH": None, "--output": None, "--include-git": False, "--json": False},
    "workspace reset": {"W": None, "--snapshot": "baseline", "--json": False},
    "workspace stop": {"W": None, "--json": False},
    "workspace start": {"W": None, "--json": False},
    "workspace delete": {"W": None, "--json": False},
    "workspace restore": {"W": None, "--name": None, "--json": False},
    "workspace prune": {"W": None, "--dry-run": False, "--json": False},
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
        load_all(parser)
        tree |= {path: _flags(each) for path, each in _parsers(parser, verb).items()}
    assert tree == COMMAND_TREE


def test_the_order_of_the_commands_in_the_help() -> None:
    """That of the contract, for those that there are."""
    contract = ("env", "mcp", "run", "workspace", "doctor", "demo", "completion")
    assert list(COMMANDS) == [verb for verb in contract if verb in COMMANDS]


# A completion script is for a shell to read, and what the MCP server says for a chat host.
@pytest.mark.parametrize("path", sorted(COMMAND_TREE.keys() - {"completion", "mcp serve"}))
def test_every_command_with_a_result_can_print_it_as_json(path: str) -> None:
    assert "--json" in COMMAND_TREE[path]


def test_the_names_that_programs_import() -> None:
    assert pyro_mcp.__all__ == ["AsyncPyro", "Pyro", "PyroError", "__version__"]
    assert pyro_mcp.AsyncPyro is sdk.AsyncPyro
    assert pyro_mcp.Pyro is sdk.Pyro
    assert pyro_mcp.PyroError is errors.PyroError
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        pyro_mcp.nonsense  # noqa: B018


# Parameters with their defaults; what stands behind `*` is given by name.
METHODS = {
    "run_in_vm": (
        "environment, command, *, vcpu_count=1, mem_mib=1024, timeout_seconds=30, ttl_seconds=None, network=False, "
        "timings=False, on_progress=None"
    ),
    "stream_in_vm": "request",
    "list_environments": "",
    "inspect_environment": "environment",
    "pull_environment": "environment, *, source=None, on_progress=None",
    "prune_environments": "*, dry_run=False",
    "create_workspace": (
        "environment, *, vcpu_count=1, mem_mib=1024, ttl_seconds=None, network_policy='off', seed_path=None, "
        "seed_all=False, name=None, labels=None, on_progress=None"
    ),
    "list_workspaces": "*, deleted=False",
    "workspace_status": "workspace",
    "update_workspace": "workspace, *, name=None, clear_name=False, labels=None, clear_labels=()",
    "start_workspace": "workspace",
    "stop_workspace": "workspace",
    "delete_workspace": "workspace",
    "reset_workspace": "workspace, snapshot='baseline'",
    "restore_workspace": "workspace, *, name=None",
    "prune_workspaces": "*, workspace=None, dry_run=False",
    "exec_workspace": "workspace, command, *, timeout_seconds=30, stdin=None",
    "stream_in_workspace": "workspace, request",
    "start_command": "workspace, command, *, timeout_seconds=30, wait_seconds=45, on_progress=None",
    "wait_for_command": "workspace, exec_id, *, wait_seconds=45",
    "command_status": "workspace, exec_id",
    "read_command_output": "workspace, exec_id, *, offset=0, limit=8192, grep=None",
    "cancel_command": "workspace, exec_id",
    "workspace_logs": "workspace",
    "push_workspace_sync": "workspace, source, *, dest='/workspace', all=False, on_progress=None",
    "list_workspace_files": "workspace, path='/workspace', *, recursive=False, limit=10000",
    "read_workspace_file": "workspace, path, *, max_bytes=1048576, offset=0",
    "write_workspace_file": "workspace, path, data",
    "apply_workspace_patch": "workspace, patch",
    "diff_workspace": "workspace, *, max_bytes=4194304",
    "export_workspace": "workspace, path, output, *, include_git=False, on_progress=None",
    "close": "",
}


@pytest.mark.parametrize("kind", [Pyro, AsyncPyro])
def test_the_methods_of_pyro(kind: type) -> None:
    methods = {
        name: ", ".join(_parameters(method))
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }
    assert methods == METHODS


def _parameters(method: Callable[..., object]) -> list[str]:
    shown = []
    for parameter in list(inspect.signature(method).parameters.values())[1:]:
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in shown:
            shown.append("*")
        default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
        shown.append(f"{parameter.name}{default}")
    return shown


def test_what_programs_get_has_a_name_to_import() -> None:
    assert sdk.__all__ == sorted(sdk.__all__)
    for name in sdk.__all__:
        assert isinstance(getattr(sdk, name), type), name


SAME_DEFAULTS: dict[str, Callable[..., object]] = {
    "run": Pyro.run_in_vm,
    "workspace create": Pyro.create_workspace,
    "workspace exec": Pyro.exec_workspace,
    "workspace sync push": Pyro.push_workspace_sync,
    "workspace file list": Pyro.list_workspace_files,
    "workspace reset": Pyro.reset_workspace,
    "workspace prune": Pyro.prune_workspaces,
}
OF_THE_COMMAND_LINE = {"--json", "--id-only", "--label"}


@pytest.mark.parametrize("command", SAME_DEFAULTS)
def test_the_sdk_and_the_command_line_have_the_same_defaults(command: str) -> None:
    parameters = inspect.signature(SAME_DEFAULTS[command]).parameters
    for flag, default in COMMAND_TREE[command].items():
        name = flag.removeprefix("--").replace("-", "_")
        if flag.startswith("--") and flag not in OF_THE_COMMAND_LINE:
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
    settings = Settings(Path("/h"), Path("/c"), Path("/b"), "qemu", "off", 2)
    assert settings.to_environment() == {
        "PYRO_HOME": "/h",
        "PYRO_CACHE_DIR": "/c",
        "PYRO_RUNTIME_BUNDLE_DIR": "/b",
        "PYRO_VMM": "qemu",
        "PYRO_TEMPLATES": "off",
        "PYRO_POOL": "2",
    }
    assert VMM_CHOICES == ("auto", "firecracker", "qemu")
    assert SWITCH == ("on", "off")
    assert MOST_READY == 4


def test_the_distribution_and_its_command() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (project["name"], project["license"], project["requires-python"]) == ("pyro-mcp", "MIT", ">=3.11")
    assert project["scripts"] == {"pyro": "pyro_mcp.cli.main:main"}
    assert metadata.version("pyro-mcp") == pyro_mcp.__version__


def test_the_installed_command() -> None:
    command = Path(sys.executable).with_name("pyro")
    ended = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert ended.stdout == f"pyro {pyro_mcp.__version__}\n"
