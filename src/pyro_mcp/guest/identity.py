"""What makes a guest one machine and no other; protocol/README.md, "Preamble"."""

import secrets
import time
from dataclasses import dataclass
from hashlib import blake2s

_ENTROPY_BYTES = 32
_ID_BYTES = 16


@dataclass(frozen=True)
class Identity:
    """A machine's name (1 to 63 of `a-z`, `0-9` and `-`) and machine-id(5), and whether it has a workspace, with a
    seed or without."""

    host_name: str
    machine_id: str
    workspace: bool = False
    seed: bool = False

    def assignment(self) -> dict[str, object]:
        """What a guest is told, with the time and new entropy; made anew for each guest."""
        return {
            "time_ns": time.time_ns(),
            "entropy": secrets.token_hex(_ENTROPY_BYTES),
            "machine_id": self.machine_id,
            "host_name": self.host_name,
            "workspace": self.workspace,
            "seed": self.seed,
        }


OF_ANY_THROWAWAY = Identity("localhost", "0" * 2 * _ID_BYTES)
"""What a guest is prepared for that may become any machine of `of_throwaway`: names that leave nothing behind when it
gets its own. There is a line for `localhost` in /etc/hosts already."""


def of_throwaway() -> Identity:
    """A machine that nobody meets twice."""
    return Identity(f"pyro-{secrets.token_hex(4)}", secrets.token_hex(_ID_BYTES))


def of_workspace(workspace_id: str, *, seed: bool) -> Identity:
    """The same machine however often the workspace is started."""
    machine_id = blake2s(workspace_id.encode(), digest_size=_ID_BYTES, person=b"machine").hexdigest()
    return Identity(workspace_id, machine_id, workspace=True, seed=seed)
