"""What a guest proves of KVM before the tests of a host on which that may take longer than anywhere else."""

import asyncio
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

from pyro_mcp.config import Settings
from pyro_mcp.runtime.bundle import find_bundle
from pyro_mcp.vmm import kvm
from pyro_mcp.vmm.kvm import KvmVerdict
from tests.vm.pyro_command import CHOSEN_VMM, PyroCommand

# An emulated guest in an emulated machine takes three to seven seconds, and more where others use the processors too.
_PROOF_SECONDS = 60.0 if CHOSEN_VMM == "firecracker" else kvm.PROOF_SECONDS


@cache
def kvm_verdict() -> KvmVerdict:
    """What the product's own proof says of KVM here, remembered in the user's cache for every `pyro` that uses it."""
    settings = PyroCommand(Path("/")).client.settings  # the user's, whatever a test has made of the environment
    return _proved(settings)


def take_over(pyro: PyroCommand) -> None:
    """Let another bundle than the usual one go without a proof of its own."""
    settings = pyro.client.settings
    usual = replace(settings, runtime_bundle_dir=None)
    known = kvm.remembered(settings.cache_dir, find_bundle(usual).digest) or _proved(usual)
    kvm.remember(settings.cache_dir, find_bundle(settings).digest, known)


def _proved(settings: Settings) -> KvmVerdict:
    bundle = find_bundle(settings)
    files = (bundle.firecracker, bundle.kernel, bundle.initramfs)
    with tempfile.TemporaryDirectory() as folder:
        verdict = asyncio.run(kvm.prove(*files, Path(folder) / "vmms", timeout_seconds=_PROOF_SECONDS))
    kvm.remember(settings.cache_dir, bundle.digest, verdict)
    return verdict
