"""What a guest proves of KVM before the tests of a host on which that may take longer than anywhere else."""

import asyncio
import tempfile
from functools import cache
from pathlib import Path

from pyro_mcp.config import Settings
from pyro_mcp.runtime.bundle import RuntimeBundle, find_bundle
from pyro_mcp.vmm import kvm
from pyro_mcp.vmm.kvm import KvmVerdict

# An emulated guest in an emulated machine takes three to seven seconds, and more where others use the processors too.
_PROOF_SECONDS = 60.0


@cache
def kvm_verdict() -> KvmVerdict:
    """What the product's own proof says of KVM here, remembered in the user's cache for every `pyro` that uses it.

    Not to be asked for where `own_places` has changed the settings, that is, from a fixture of the session alone.
    """
    settings = Settings.from_environment()
    bundle = find_bundle(settings)
    files = (bundle.firecracker, bundle.kernel, bundle.initramfs)
    with tempfile.TemporaryDirectory() as folder:
        verdict = asyncio.run(kvm.prove(*files, Path(folder) / "vmms", timeout_seconds=_PROOF_SECONDS))
    kvm.remember(settings.cache_dir, bundle.digest, verdict)
    return verdict


def take_over(bundle: RuntimeBundle) -> None:
    """Let another bundle go without a proof of its own, where the usual one has had one."""
    settings = Settings.from_environment()
    verdict = kvm.remembered(settings.cache_dir, find_bundle(settings).digest)
    if verdict is not None:
        kvm.remember(settings.cache_dir, bundle.digest, verdict)
