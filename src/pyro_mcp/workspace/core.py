"""What the parts of the engine share."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from pyro_mcp.images.store import Store
from pyro_mcp.vmm import proportional
from pyro_mcp.workspace.history import History
from pyro_mcp.workspace.holds import Holds
from pyro_mcp.workspace.host import FindHost
from pyro_mcp.workspace.live import Machines
from pyro_mcp.workspace.places import Places
from pyro_mcp.workspace.record import DELETED, KEPT_FOR, RUNNING, WorkspaceRecord, after
from pyro_mcp.workspace.records import Records
from pyro_mcp.workspace_models import WorkspaceInfo


class Facts(NamedTuple):
    """What there is to see of a workspace beside its record: its size on disk, how many commands it has had and how
    many of them run, what `restore` would bring back, and until when."""

    disk_bytes: int
    commands: int
    running: int
    recoverable: tuple[str, ...]
    until: str | None


@dataclass(frozen=True)
class Core:
    """The workspaces of one PYRO_HOME: their files, what is written down of them, and their machines."""

    places: Places
    records: Records
    history: History
    holds: Holds
    machines: Machines
    images: Store
    find_host: FindHost

    async def record(self, workspace_id: str) -> WorkspaceRecord:
        """How a workspace stands now, for whoever has just been given a hold on it. Raises `NotFound`."""
        return await asyncio.to_thread(self.records.get, workspace_id)

    def info(self, record: WorkspaceRecord) -> WorkspaceInfo:
        """What clients get to see of it."""
        return described(record, self.facts(record, self.history.counts(record.workspace_id)))

    def facts(self, record: WorkspaceRecord, counts: Mapping[str, tuple[int, int]]) -> Facts:
        """What is to be seen of it now beside its record; `counts` are those of the history."""
        recoverable, until = self._recoverable(record)
        return Facts(
            self.places.used_bytes(record),
            *counts.get(record.workspace_id, (0, 0)),
            recoverable=recoverable,
            until=until,
        )

    async def status(self, record: WorkspaceRecord) -> WorkspaceInfo:
        """The same with what its machine takes of the host's memory, which takes some milliseconds to find out."""
        info = self.info(record)
        if record.state != RUNNING or record.process is None:
            return info
        return replace(info, host_memory_bytes=await asyncio.to_thread(proportional.bytes_of, record.process))

    def _recoverable(self, record: WorkspaceRecord) -> tuple[tuple[str, ...], str | None]:
        """What `restore` would bring back now, and until when; not what is half removed already (see `prune`)."""
        if record.state == DELETED and record.deleted_at is not None:
            there = self.places.has_disk(record.workspace_id, record.disk)
            return (("delete",), after(record.deleted_at, KEPT_FOR)) if there else ((), None)
        if record.kept is not None and self.places.has_disk(record.workspace_id, record.kept.disk):
            return ("reset",), after(record.kept.kept_at, KEPT_FOR)
        return (), None


def described(record: WorkspaceRecord, facts: Facts) -> WorkspaceInfo:
    """What clients get to see of a workspace."""
    return WorkspaceInfo(
        workspace_id=record.workspace_id,
        environment=record.environment,
        environment_digest=record.digest,
        state=record.state,
        vcpu_count=record.vcpu_count,
        mem_mib=record.mem_mib,
        network_policy=record.network_policy,
        created_at=record.created_at,
        vmm=record.vmm,
        name=record.name,
        labels=record.labels,
        seed=record.seed,
        ttl_seconds=record.ttl_seconds,
        expires_at=record.expires_at,
        stopped_because=record.stopped_because,
        deleted_at=record.deleted_at,
        recoverable=facts.recoverable,
        recoverable_until=facts.until,
        disk_bytes=facts.disk_bytes,
        command_count=facts.commands,
        running_commands=facts.running,
    )
