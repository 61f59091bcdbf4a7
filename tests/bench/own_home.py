"""A daemon and workspaces of a benchmark's own."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pyro_mcp.config import Settings
from pyro_mcp.daemon.client import DaemonClient
from pyro_mcp.sdk import Pyro

MEM_MIB = 512
_AT_ONCE = 4


@contextmanager
def own_home(settings: Settings) -> Iterator[Settings]:
    """Settings with a home of its own, whose daemon has the template for such machines; nothing of it is left."""
    with tempfile.TemporaryDirectory() as folder:
        ours = replace(settings, home=Path(folder))
        sdk = Pyro(ours)
        try:
            delete(sdk, create(sdk))
            yield ours
        finally:
            _delete_all(sdk)
            DaemonClient(ours).stop()


def create(sdk: Pyro) -> str:
    """Make an empty workspace."""
    return sdk.create_workspace("debian:12", mem_mib=MEM_MIB).workspace_id


def delete(sdk: Pyro, workspace: str) -> None:
    """Take it away for good."""
    sdk.delete_workspace(workspace)
    sdk.prune_workspaces(workspace=workspace)


def _delete_all(sdk: Pyro) -> None:
    left = [info.workspace_id for info in sdk.list_workspaces()]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda workspace: delete(sdk, workspace), left))
