"""What every VMM driver takes and gives back.

A driver only starts and stops a machine and hands back a byte channel to its agent. It knows nothing of commands or
files: those go through the guest client, so that every driver shares them.
"""

import socket
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pyro_mcp.process import Detached, Process

if TYPE_CHECKING:
    from pyro_mcp.vmm.template import Template, UntilReady


@dataclass(frozen=True)
class MachineSpec:
    """A machine to start.

    `image` is the environment's squashfs. `disk_fd` is the machine's own ext4 disk, open for reading and writing; it
    stays the caller's and must be open until the machine has started. `mem_mib` is the guest's memory in MiB. `seed`
    is the squashfs that a `/workspace` begins with. A machine with a `template` begins as its copy instead of
    booting; it has to be like the one that the template was made of, its disk and seed aside. `durable` makes what
    the guest flushes last through a power failure of the host.
    """

    kernel: Path
    initramfs: Path
    modules: Path
    image: Path
    disk_fd: int
    vcpu_count: int
    mem_mib: int
    seed: Path | None = None
    durable: bool = False
    template: "Template | None" = None


OpenChannel = Callable[[], Awaitable[socket.socket]]
"""Opens the channel to a guest's agent, waiting until there is somebody to talk to; no time limit of its own. Raises
`OSError` where there is nobody and will be nobody."""


@dataclass(frozen=True)
class Machine:
    """A started machine: its VMM's process and how its agent is reached, once or, if it `reopens`, any time.

    `console` returns the end of what the VMM and the guest's console printed so far.
    """

    vmm: str
    process: Process
    open_channel: OpenChannel
    console: Callable[[], str]
    reopens: bool = False


class Driver(Protocol):
    """A way to run machines, both such as end with the process that started them and such as outlive it."""

    @property
    def name(self) -> str:
        """What the VMM is called in results."""
        ...

    @property
    def listens_at(self) -> str:
        """The name of the socket in the folder of a machine that is to be kept which its starter listens at."""
        ...

    async def make_template(self, spec: MachineSpec, folder: Path, until_ready: "UntilReady") -> None:
        """Boot such a machine until it is ready, and leave its `Template` in that folder; nothing of it runs then.

        `spec.disk_fd` is a disk of the size that its copies will have. Raises `GuestFailed`, `HostUnfit` and `OSError`.
        """
        ...

    def with_console(self) -> "Driver":
        """The same, but the guest's kernel prints what it does, which makes the boot slower."""
        ...

    def boot(self, spec: MachineSpec) -> AbstractAsyncContextManager[Machine]:
        """Start a machine that is stopped, with nothing of it left, when the block ends however it ends.

        Raises `HostUnfit` when this host cannot run the VMM.
        """
        ...

    def start_kept(
        self,
        spec: MachineSpec,
        folder: Path,
        listener: socket.socket,
        log_fd: int,
        before_start: Callable[[Detached], None],
    ) -> Detached:
        """Start a machine that outlives us.

        `folder` is its own, and empty but for the socket `listens_at`, where `listener` listens; that and `log_fd`,
        where what the VMM prints goes, stay the caller's and must be open until this returns. `before_start` is as for
        `process.spawn_detached`. Blocks for some milliseconds: not for the event loop. Killing the process takes all of
        the machine away. Raises `HostUnfit` when this host cannot run the VMM.
        """
        ...

    def channel(self, spec: MachineSpec, folder: Path, listener: socket.socket) -> OpenChannel:
        """How the agent of a machine that `start_kept` has started is reached while it begins, and afterwards."""
        ...

    def shape(self, spec: MachineSpec) -> str:
        """What a template of such a machine depends on, besides the contents of the files that the machine reads, this
        host's processor and its kernel."""
        ...
