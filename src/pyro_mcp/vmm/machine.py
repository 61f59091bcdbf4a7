"""What every VMM driver takes and gives back.

A driver only starts and stops a machine and hands back a byte channel to its agent. It knows nothing of commands or
files: those go through the guest client, so that every driver shares them.
"""

import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pyro_mcp.process import Detached, Process


@dataclass(frozen=True)
class MachineSpec:
    """A machine to start.

    `image` is the environment's squashfs. `disk_fd` is the machine's own ext4 disk, open for reading and writing; it
    stays the caller's and must be open until the machine has started. `mem_mib` is the guest's memory in MiB.
    `workspace` tells the agent that there is a `/workspace` with changes of its own, over the squashfs `seed` if there
    is one. `durable` makes what the guest flushes last through a power failure of the host.
    """

    kernel: Path
    initramfs: Path
    modules: Path
    image: Path
    disk_fd: int
    vcpu_count: int
    mem_mib: int
    seed: Path | None = None
    workspace: bool = False
    durable: bool = False


@dataclass(frozen=True)
class Machine:
    """A started machine: its VMM's process and the host's end of the channel to its agent.

    The agent may not listen yet: the guest is still booting. `console` returns the end of what the VMM and the guest's
    console printed so far.
    """

    vmm: str
    process: Process
    channel: socket.socket
    console: Callable[[], str]


class Driver(Protocol):
    """A way to run machines."""

    @property
    def name(self) -> str:
        """What the VMM is called in results."""
        ...

    def boot(self, spec: MachineSpec) -> AbstractAsyncContextManager[Machine]:
        """Start a machine that is stopped, with nothing of it left, when the block ends however it ends.

        Raises `HostUnfit` when this host cannot run the VMM.
        """
        ...


class KeepingDriver(Driver, Protocol):
    """A way to run machines that outlive the process that started them."""

    def start_kept(
        self, spec: MachineSpec, listener: socket.socket, log_fd: int, before_start: Callable[[Detached], None]
    ) -> Detached:
        """Start a machine that whoever connects to `listener`'s address can talk to, one after the other.

        The listener and `log_fd`, where what the VMM prints goes, stay the caller's and must be open until this
        returns. `before_start` is as for `process.spawn_detached`. Blocks for some milliseconds: not for the event
        loop. Killing the process takes all of the machine away. Raises `HostUnfit` when this host cannot run the VMM.
        """
        ...
