"""A template: a machine that was written down as it was at one moment, for others to begin as its copies.

As a rule its guest has booted and waits to be told what machine it is: a copy has a kernel that runs and an agent that
answers, and pays for neither. Its disk is part of it only where the guest has mounted that already.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from pyro_mcp.vmm.machine import OpenChannel

UntilReady = Callable[[OpenChannel], Awaitable[None]]
"""Returns when the agent on this channel answers, and leaves it alone from then on."""


@dataclass(frozen=True)
class Template:
    """The files of one, in a folder."""

    folder: Path

    @property
    def state(self) -> Path:
        """The state of the devices and the processors."""
        return self.folder / "state"

    @property
    def memory(self) -> Path:
        """The memory, as long as the guest has it and mostly holes."""
        return self.folder / "memory"

    @property
    def disk(self) -> Path:
        """The disk, where the guest has mounted it: a copy begins with a copy of that, and with no other."""
        return self.folder / "disk"
