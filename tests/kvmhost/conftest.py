"""Tests for a host whose KVM works. `scripts/check-kvm` makes one and runs them in it.

Each test runs as an ordinary user who may use KVM; those marked `kvmhost_root` run as root instead.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.runtime.bundle import RuntimeBundle, find_bundle
from pyro_mcp.vmm.kvm import KvmState, KvmVerdict
from tests.support.waiting import wait_until
from tests.vm import proof
from tests.vm.conftest import remove_workspaces
from tests.vm.pyro_command import PyroCommand, descendants


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.vm)


@pytest.fixture(scope="session")
def bundle() -> RuntimeBundle:
    """The bundle of the installed wheel."""
    return find_bundle(Settings.from_environment())


@pytest.fixture(scope="session", autouse=True)
def kvm_verdict() -> KvmVerdict:
    """No test here means anything where KVM does not work."""
    verdict = proof.kvm_verdict()
    assert verdict.state is KvmState.WORKS, f"these tests need a host like that of scripts/check-kvm: {verdict}"
    return verdict


@pytest.fixture(scope="session")
def pyro(kvm_verdict: KvmVerdict, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PyroCommand]:
    """`pyro` with a home of its own; its daemon must end with nothing left below it."""
    command = PyroCommand(tmp_path_factory.mktemp("home"))
    yield command
    remove_workspaces(command)
    pid = command.daemon_pid()
    wait_until(lambda: not descendants(pid))
    command.client.stop()
    assert list((command.home / "vmms").iterdir()) == []
