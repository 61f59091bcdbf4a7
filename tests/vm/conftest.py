"""Real guests: one daemon and one installed environment for the whole session, checked for leaks at the end."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyro_mcp import Pyro
from pyro_mcp.errors import PyroError
from pyro_mcp.vmm.kvm import KvmState
from tests.support.waiting import wait_until
from tests.vm.copies import created, says
from tests.vm.own_cache import copied_cache, copy_template, templates_in, trouble_with_templates
from tests.vm.proof import kvm_verdict
from tests.vm.pyro_command import CHOSEN_VMM, PyroCommand, descendants
from tests.vm.vmms import vmms_of

# Tests count VMMs, and begin only those that they count.
_NO_POOL = {"PYRO_POOL": "0"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.path).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.vm)


@pytest.fixture(scope="session", autouse=True)
def proved_kvm() -> None:
    """Where Firecracker is expected, no `pyro` need find out by itself whether KVM works."""
    if CHOSEN_VMM == "firecracker":
        assert kvm_verdict().state is KvmState.WORKS


@pytest.fixture(scope="session")
def pyro(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PyroCommand]:
    """`pyro` with debian:12 installed in the user's own cache; its daemon must end with nothing left below it."""
    command = PyroCommand(tmp_path_factory.mktemp("home"), _NO_POOL)
    installed = command("run", "debian:12", "--", "true")
    assert installed.exit_code == 0, installed.stderr
    yield command
    remove_workspaces(command)
    pid = command.daemon_pid()
    wait_until(lambda: not descendants(pid))
    command.client.stop()


@pytest.fixture
def lone_pyro(tmp_path: Path) -> Iterator[PyroCommand]:
    """`pyro` with a daemon of its own, for tests that do it harm."""
    command = PyroCommand(tmp_path / "home", _NO_POOL)
    yield command
    with contextlib.suppress(PyroError):
        remove_workspaces(command)
        command.client.stop()
    assert not vmms_of(command.home)


def remove_workspaces(command: PyroCommand) -> None:
    """Take all workspaces away for good: their machines outlive the daemon."""
    sdk = Pyro(command.client.settings)
    for info in sdk.list_workspaces():
        sdk.delete_workspace(info.workspace_id)
    sdk.prune_workspaces()


# Where the templates are: for tests of what begins from them


@pytest.fixture(scope="session")
def templates_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied_cache(tmp_path_factory.mktemp("templates"))


@pytest.fixture(scope="session")
def both_templates(templates_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The templates in the cache, made by a daemon that has ended since: of what is thrown away, and of workspaces."""
    command = PyroCommand(tmp_path_factory.mktemp("home"), {"PYRO_CACHE_DIR": str(templates_cache)})
    says(command, "true")
    (throwaway,) = templates_in(templates_cache / "templates")
    created(Pyro(command.client.settings))
    remove_workspaces(command)
    command.client.stop()
    (workspaces,) = templates_in(templates_cache / "templates") - {throwaway}
    return throwaway, workspaces


@pytest.fixture(scope="session")
def template(both_templates: tuple[Path, Path]) -> Path:
    """What machines begin from that are thrown away: it has a disk."""
    return both_templates[0]


@pytest.fixture
def copying(both_templates: tuple[Path, Path], templates_cache: Path, tmp_path: Path) -> Iterator[PyroCommand]:
    """`pyro` all of whose machines begin as copies of `both_templates`."""
    command = PyroCommand(tmp_path / "home", {"PYRO_CACHE_DIR": str(templates_cache)})
    yield command
    remove_workspaces(command)
    command.client.stop()
    assert trouble_with_templates(command.home) == []
    assert templates_in(templates_cache / "templates") == set(both_templates)


@pytest.fixture
def harming(both_templates: tuple[Path, Path], templates_cache: Path, tmp_path: Path) -> Iterator[PyroCommand]:
    """`pyro` that finds `both_templates`, which may be harmed: they are as they were when this ends."""
    for template in both_templates:
        copy_template(template, tmp_path / template.name)
    command = PyroCommand(tmp_path / "home", {"PYRO_CACHE_DIR": str(templates_cache)})
    yield command
    remove_workspaces(command)
    command.client.stop()
    shutil.rmtree(templates_cache / "templates", ignore_errors=True)
    for template in both_templates:
        copy_template(tmp_path / template.name, template)
