"""What many idle workspaces take of the host's memory, with their daemon."""

import time

from pyro_mcp.config import Settings
from pyro_mcp.daemon.client import DaemonClient
from pyro_mcp.process_watch import Detached, start_time
from pyro_mcp.sdk import Pyro
from pyro_mcp.vmm import proportional
from tests.bench.own_home import MEM_MIB, create, own_home
from tests.bench.report import Ratio

_WORKSPACES = 20
_PROMISED_MIB = 1536.0
_IDLE_SECONDS = 5.0


def idle_workspaces(settings: Settings) -> Ratio:
    """The proportional memory of the daemon, and of the VMMs and sandboxes of 20 workspaces that do nothing."""
    with own_home(settings) as ours:
        sdk = Pyro(ours)
        workspaces = [create(sdk) for _ in range(_WORKSPACES)]
        time.sleep(_IDLE_SECONDS)
        taken = sum(_of_workspace(sdk, workspace) for workspace in workspaces) + _of_daemon(ours)
    name = f"memory of {_WORKSPACES} idle {MEM_MIB} MiB workspaces / promised"
    return Ratio(name, (taken / (1 << 20),), (_PROMISED_MIB,), 1.0, "MiB")


def _of_workspace(sdk: Pyro, workspace: str) -> int:
    taken = sdk.workspace_status(workspace).host_memory_bytes
    assert taken is not None
    return taken


def _of_daemon(settings: Settings) -> int:
    pid = int(DaemonClient(settings).ask("GET", "/v1/hello")["pid"])
    began = start_time(pid)
    assert began is not None
    taken = proportional.bytes_of(Detached(pid, began))
    assert taken is not None
    return taken
