"""Making a workspace, all of it or nothing."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pyro_mcp.errors import InvalidRequest, NotFound
from pyro_mcp.images import catalog, store, uses
from pyro_mcp.models import MEM_MIB_RANGE, NOTICE, TIMEOUT_SECONDS_RANGE, VCPU_RANGE, Progress
from pyro_mcp.to_the_end import to_the_end
from pyro_mcp.workspace import names, news
from pyro_mcp.workspace.blank import blank_disk
from pyro_mcp.workspace.command_words import check_range
from pyro_mcp.workspace.core import Core
from pyro_mcp.workspace.environments import Report, ensure_installed
from pyro_mcp.workspace.lifecycle import boot
from pyro_mcp.workspace.places import FIRST_DISK
from pyro_mcp.workspace.prune import remove_for_good
from pyro_mcp.workspace.record import CREATING, DELETED, RUNNING, STOPPED, WorkspaceRecord, now
from pyro_mcp.workspace.records import name_in_use
from pyro_mcp.workspace.seed import build_seed, look_at
from pyro_mcp.workspace.unclaimed import Unclaimed
from pyro_mcp.workspace_models import NETWORK_POLICIES, CreateWorkspace

log = logging.getLogger(__name__)
_ANY_STATE = (CREATING, RUNNING, STOPPED, DELETED)


class NewIds:
    """Ids for workspaces that are being made, of which no two ever get the same one."""

    def __init__(self) -> None:
        self._reserved: set[str] = set()

    @contextlib.contextmanager
    def draw(self, core: Core) -> Iterator[str]:
        """One that no record and no folder has, and nobody else gets while the block runs. Raises `HostUnfit`."""
        known = {record.workspace_id for record in core.records.all()}
        with self.reserved(names.new_id(self._reserved | known | core.places.ids())) as drawn:
            yield drawn

    @contextlib.contextmanager
    def reserved(self, workspace_id: str) -> Iterator[str]:
        """That one: nobody else gets it while the block runs."""
        self._reserved.add(workspace_id)
        try:
            yield workspace_id
        finally:
            self._reserved.discard(workspace_id)


def check(request: CreateWorkspace) -> None:
    """Refuse what cannot be made, naming the parameter, before anything is found out that takes its time."""
    catalog.lookup(request.environment)
    check_range("--vcpu-count", request.vcpu_count, VCPU_RANGE)
    check_range("--mem-mib", request.mem_mib, MEM_MIB_RANGE)
    if request.ttl_seconds is not None:
        check_range("--ttl-seconds", request.ttl_seconds, TIMEOUT_SECONDS_RANGE)
    if request.network_policy not in NETWORK_POLICIES:
        raise InvalidRequest(
            "bad_network_policy",
            f"{request.network_policy[:40]!r} is no network policy",
            f"use one of: {', '.join(NETWORK_POLICIES)}",
        )
    if request.network_policy != "off":
        raise InvalidRequest(
            "network_unsupported",
            "workspaces have no network in this version of pyro",
            "leave --network-policy out, or use off",
        )
    if request.name is not None:
        names.check_name(request.name)
    names.check_labels(request.labels)
    if request.seed_path is not None and (not request.seed_path.startswith("/") or "\0" in request.seed_path):
        raise InvalidRequest("bad_seed_path", "the seed's path is not absolute", "give the whole path")


async def create(
    core: Core, workspace_id: str, request: CreateWorkspace, report: Report, ready: Unclaimed | None = None
) -> None:
    """Make a workspace that runs; the caller holds `workspace_id`, an id that is free, exclusively.

    A machine of that id that is `ready` becomes its machine if it fits; the caller ends it in any case.
    An environment that is not installed is pulled first. Raises `Conflict` (`name_in_use`), `NotFound`, `HostUnfit`,
    `SourceFailed`, `GuestFailed`, or as `seed.build_seed` does; then, and when cancelled, nothing is left of it.
    """
    await asyncio.to_thread(_check_free, core, request.name)
    if request.seed_path is not None:  # a bad one costs no pull, and no machine that is ready
        await asyncio.to_thread(look_at, Path(request.seed_path))
    host = await core.find_host()
    if host.notice is not None:
        await report(Progress("create", NOTICE, "", host.notice))
    await ensure_installed(core.images, request.environment, report)
    added: list[str] = []  # nothing that somebody else has written down is ever taken back
    try:
        record = await _write_down(core, workspace_id, request, host.driver.name, added, ready=ready)
        has_machine = record.process is not None
        await _furnish(core, record, request, report)
        if ready is not None and has_machine:
            has_machine = await _give_seed(core, record, ready, seeded=request.seed_path is not None)
        await report(Progress("create", "boot", request.environment))
        await boot(core, await core.record(workspace_id), ready if has_machine else None)
        if (live := core.machines.get(workspace_id)) is not None:
            await news.tell(live.news, report)
    except BaseException:
        if added:
            await to_the_end(_take_back(core, workspace_id))
        raise


def _check_free(core: Core, name: str | None) -> None:
    """Before a pull of minutes; that the name is free is made sure of later, when it is written down."""
    if name is not None and any(name == record.name and record.state != DELETED for record in core.records.all()):
        raise name_in_use(name)


async def _write_down(
    core: Core, workspace_id: str, request: CreateWorkspace, vmm: str, added: list[str], *, ready: Unclaimed | None
) -> WorkspaceRecord:
    with await store.open_verified(core.images, request.environment) as image:
        record = WorkspaceRecord(
            workspace_id=workspace_id,
            environment=image.environment,
            digest=image.digest,
            vcpu_count=request.vcpu_count,
            mem_mib=request.mem_mib,
            network_policy=request.network_policy,
            created_at=now().isoformat(),
            vmm=vmm,
            disk=FIRST_DISK,
            name=request.name,
            labels=dict(request.labels),
            ttl_seconds=request.ttl_seconds,
        )
        if ready is not None and ready.fits(record):
            record = replace(record, process=ready.machine.process)
        elif ready is not None:
            await to_the_end(ready.end())  # its folder would be in the way
        # While the image is open nobody can remove it, and from then on nobody does.
        await to_the_end(asyncio.to_thread(_begin, core, record, added))
        if ready is not None and record.process is not None:
            ready.claim()
    return record


def _begin(core: Core, record: WorkspaceRecord, added: list[str]) -> None:
    core.records.add(record)
    added.append(record.workspace_id)
    if record.process is None:
        core.places.make(record.workspace_id)
    uses.keep(core.images, record.digest, core.places.folder(record.workspace_id))


async def _furnish(core: Core, record: WorkspaceRecord, request: CreateWorkspace, report: Report) -> None:
    if request.seed_path is not None:
        image = core.places.seed(record.workspace_id)
        seed = await build_seed(Path(request.seed_path), image, everything=request.seed_all, report=report)
        image.chmod(0o444)  # the VMM of root reads it as nobody; others cannot pass the folder above
        await to_the_end(asyncio.to_thread(core.records.seeded, record.workspace_id, seed))
    if record.process is None:  # a machine that was ready has one
        await blank_disk(core.images, core.places.disk(record))


async def _give_seed(core: Core, record: WorkspaceRecord, ready: Unclaimed, *, seeded: bool) -> bool:
    """Let a machine that was ready have the seed; False if there is no room for that, and the machine is no use."""
    image = core.places.seed(record.workspace_id) if seeded else None
    try:
        await to_the_end(asyncio.to_thread(ready.take_seed, image))
    except OSError as error:
        log.warning("the machine that was ready for %s cannot have its seed: %s", record.workspace_id, error)
        core.places.no_seed_yet(record.workspace_id).unlink(missing_ok=True)
        return False
    return True


async def _take_back(core: Core, workspace_id: str) -> None:
    with contextlib.suppress(NotFound):  # it was not even written down
        await core.machines.end(await core.record(workspace_id), orderly=False)
    await asyncio.to_thread(remove_for_good, core, workspace_id, in_states=_ANY_STATE)
