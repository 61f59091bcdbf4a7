"""Tests for a host whose KVM works. `scripts/check-kvm` makes one and runs them in it.

Each test runs as an ordinary user who may use KVM; those marked `kvmhost_root` run as root instead.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.runtime.bundle import RuntimeBundle, find_bundle
from pyro_mcp.vmm import kvm
from pyro_mcp.vmm.kvm import KvmState, KvmVerdict
from tests.support.waiting import wait_until
from tests.vm.conftest import remove_workspaces
from tests.vm.pyro_command import PyroCommand, descendants

# An emulated guest in an emulated machine takes three to seven seconds, and more where others use the processors too.
_PROOF_SECONDS = 60.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.vm)


@pytest.fixture(scope="session")
def bundle() -> RuntimeBundle:
    """The bundle of the installed wheel."""
    return find_bundle(Settings.from_environment())


@pytest.fixture(scope="session")
def kvm_verdict(bundle: RuntimeBundle, tmp_path_factory: pytest.TempPathFactory) -> KvmVerdict:
    """What the product's own proof says of KVM here, remembered for it. It may take longer than on a real host."""
    files = (bundle.firecracker, bundle.kernel, bundle.initramfs)
    verdict = asyncio.run(kvm.prove(*files, tmp_path_factory.mktemp("vmms"), timeout_seconds=_PROOF_SECONDS))
    kvm.remember(Settings.from_environment().cache_dir, bundle.digest, verdict)
    return verdict


@pytest.fixture(scope="session", autouse=True)
def working_kvm(kvm_verdict: KvmVerdict) -> None:
    """No test here means anything where KVM does not work."""
    assert kvm_verdict.state is KvmState.WORKS, f"these tests need a host like that of scripts/check-kvm: {kvm_verdict}"


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
