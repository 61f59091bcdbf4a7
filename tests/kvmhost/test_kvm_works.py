"""The test host is what it claims to be: KVM runs Firecracker's guests, and the wheel is what is tested."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pyro_mcp
from pyro_mcp.runtime.bundle import RuntimeBundle
from pyro_mcp.vmm.kvm import KvmState, KvmVerdict


def test_firecracker_boots_the_bundles_kernel_and_agent(kvm_verdict: KvmVerdict) -> None:
    assert kvm_verdict.state is KvmState.WORKS


@pytest.mark.kvmhost_root
def test_root_can_use_kvm_too(kvm_verdict: KvmVerdict) -> None:
    assert os.geteuid() == 0
    assert kvm_verdict.state is KvmState.WORKS


def test_the_wheel_is_what_is_installed(bundle: RuntimeBundle) -> None:
    package = Path(pyro_mcp.__file__).parent
    assert package.is_relative_to(sys.prefix)
    assert bundle.folder.is_relative_to(package)
    bundle.verify()


def test_an_ordinary_user_can_make_user_namespaces() -> None:
    assert os.geteuid() != 0
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", "id", "-u"], capture_output=True, check=True
    )
    assert done.stdout.strip() == b"0"


def test_an_ordinary_user_has_a_cgroup_of_their_own() -> None:
    own = Path("/sys/fs/cgroup") / Path("/proc/self/cgroup").read_text().strip().removeprefix("0::/")
    beside = own.parent / "limited"
    beside.mkdir()
    (beside / "memory.max").write_text("64M")
    (beside / "pids.max").write_text("16")
    beside.rmdir()
