"""The sandbox around Firecracker: its binary, the inputs of its machine, a folder of its own, and /dev/kvm."""

from collections.abc import Mapping
from pathlib import Path

from pyro_mcp.vmm import confine, user_ids
from pyro_mcp.vmm.kvm_device import access_for
from pyro_mcp.vmm.own_folder import hand_over

PROGRAM = confine.INPUTS / "firecracker"
"""The binary as it is called inside."""


def sandbox_for(firecracker: Path, inputs: Mapping[Path, Path], folder: Path, *fds: int) -> confine.Sandbox:
    """A sandbox where the VMM works in `folder`, sees `inputs` (names inside to files of the host), and owns what is
    behind the descriptors. Raises `OSError`.
    """
    user = user_ids.for_vmm()
    access = access_for(user, folder)
    if user is not None:
        hand_over(user, folder, *fds)
    return confine.Sandbox({**inputs, PROGRAM: firecracker}, folder, access, user)
