"""The balloon in a machine: memory that its guest gives up for the host, for as long as it is asked to."""

from pathlib import Path
from typing import Protocol

from pyro_mcp.vmm import firecracker_api


class Balloon(Protocol):
    """What the host may ask for. Nobody tells whether the guest does it."""

    async def set_balloon(self, mib: int) -> None:
        """Ask the guest to give up so many MiB in all, 0 for none; returns before it has. Raises `GuestFailed`."""
        ...


def of(folder: Path) -> Balloon | None:
    """That of the kept machine whose VMM has this folder.

    QEMU's machines have none: what their guests give up QEMU gives back by punching holes into the file that it mapped,
    and a template's copy is one that nobody may change (see `sealed`).
    """
    if (folder / firecracker_api.SOCKET).exists():
        return firecracker_api.FirecrackerApi(folder)
    return None
