"""How far the guest of a template is when it is written down, and with what disk."""

from dataclasses import dataclass

from pyro_mcp.guest import client
from pyro_mcp.guest.identity import OF_ANY_THROWAWAY
from pyro_mcp.vmm.machine import OpenChannel
from pyro_mcp.vmm.template import UntilReady
from pyro_mcp.workspace import blank

_READY_SECONDS = 60.0


@dataclass(frozen=True)
class Stage:
    """One of them. The template's machine has a blank disk of `disk_mib` (MiB), with a `journal` or without.

    Where the guest has mounted it by the time that `until_ready` returns, it is part of the template (`with_disk`).
    """

    name: str
    disk_mib: int
    journal: bool
    with_disk: bool
    until_ready: UntilReady


async def _until_waiting(open_channel: OpenChannel) -> None:
    await client.meet(open_channel, timeout_seconds=_READY_SECONDS)


async def _until_prepared(open_channel: OpenChannel) -> None:
    await client.meet(open_channel, timeout_seconds=_READY_SECONDS, prepared_for=OF_ANY_THROWAWAY)


# A guest may take its disk for larger than it is, but not for smaller: the file system on it knows its own size.
WAITING = Stage("waiting", blank.DISK_MIB, journal=True, with_disk=False, until_ready=_until_waiting)
"""For workspaces, whatever is on their disks."""

PREPARED = Stage("prepared", 2048, journal=False, with_disk=True, until_ready=_until_prepared)
"""For machines that are thrown away: they all begin with the same disk, which nobody looks at after a crash."""
