"""The workspaces of one PYRO_HOME: finds the one that is meant, takes its hold, and calls what was asked for."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from pyro_mcp import tasks
from pyro_mcp.errors import Conflict, HostUnfit, InvalidRequest, NotFound, PyroError
from pyro_mcp.images.store import Store
from pyro_mcp.to_the_end import to_the_end
from pyro_mcp.vmm import cgroup
from pyro_mcp.workspace import adopt, create, lifecycle, names, news, prune, unclaimed
from pyro_mcp.workspace.commands import CommandRunner
from pyro_mcp.workspace.core import Core
from pyro_mcp.workspace.database import NO_SPACE
from pyro_mcp.workspace.environments import Report
from pyro_mcp.workspace.history import History
from pyro_mcp.workspace.holds import Holds
from pyro_mcp.workspace.host import FindHost
from pyro_mcp.workspace.listing import Listing
from pyro_mcp.workspace.live import LiveWorkspace, Machines
from pyro_mcp.workspace.places import Places
from pyro_mcp.workspace.pool import Pool
from pyro_mcp.workspace.record import BY_USER, DELETED, EXPIRED, PURGED, RUNNING, STOPPED, WorkspaceRecord, is_past
from pyro_mcp.workspace.records import Records
from pyro_mcp.workspace.reserve import Reserve
from pyro_mcp.workspace.unclaimed import Unclaimed
from pyro_mcp.workspace_models import (
    CreateWorkspace,
    ExecInfo,
    PrunedWorkspaces,
    PruneWorkspaces,
    ResetWorkspace,
    RestoreWorkspace,
    UpdateWorkspace,
    WorkspaceInfo,
)

log = logging.getLogger(__name__)
_HOUSEKEEPING_SECONDS = 60.0
_PRUNE_EVERY = 60  # housekeepings
_LATER_SECONDS = 10.0  # until a workspace whose time is up, but that is in use, is looked at again


class Workspaces:
    """What clients may do with workspaces. A `reference` is an id, a unique beginning of one, or a name."""

    def __init__(self, home: Path, images: Store, find_host: FindHost) -> None:
        self._home = home
        self._images = images
        self._find_host = find_host
        self._opened: Core | PyroError = NotFound("not_open", "the workspaces have not been looked at yet")
        self._adopting = 0
        self._new_ids = create.NewIds()
        self._listing = Listing()
        self.pool = Pool(images, self._start_unclaimed)
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Take over what runs and clear up what was left half done; machines may be joined after this returns.

        Never raises: where the state cannot be read, whatever is asked for later fails and says why.
        """
        try:
            self._opened = core = await asyncio.to_thread(self._open)
            running = await adopt.put_in_order(core)
        except PyroError as error:
            log.error("workspaces cannot be used: %s", error.message)
            self._close_files()
            self._opened = error
            return
        for record in running:
            self._adopting += 1
            held = asyncio.Event()
            self._spawn(self._adopt(core, record, held))
            await held.wait()
        self._spawn(self._keep_house(core))
        if newest := await asyncio.to_thread(core.records.all):
            self.pool.environment = newest[-1].environment
        self._spawn(self.pool.keep_filled())

    async def leave_commands(self) -> None:
        """The daemon is about to end: whoever follows a command is told so, and the command goes on."""
        if isinstance(self._opened, Core):
            await self._opened.machines.leave_commands()

    async def close(self) -> None:
        """The daemon ends; the machines live on, with the commands in them."""
        for task in list(self._tasks):
            await tasks.end(task)
        if isinstance(self._opened, Core):
            await self._opened.machines.close()
            self._close_files()

    @property
    def running(self) -> int:
        """How many machines run."""
        return self._opened.machines.count + self._adopting if isinstance(self._opened, Core) else 0

    async def create(self, request: CreateWorkspace, report: Report) -> WorkspaceInfo:
        """Make a workspace, and start it. See `create.create`; raises `InvalidRequest`, too."""
        core = self._core
        create.check(request)
        ready = self.pool.take(request)
        reserved = self._new_ids.draw(core) if ready is None else self._new_ids.reserved(ready.workspace_id)
        try:
            with reserved as workspace_id:
                async with core.holds.exclusive(workspace_id):
                    await create.create(core, workspace_id, request, report, ready)
                    return core.info(await core.record(workspace_id))
        finally:
            if ready is not None:
                await self.pool.give_back(ready)

    def list(self, *, deleted: bool) -> tuple[WorkspaceInfo, ...]:
        """The workspaces there are, or those deleted ones that can still be had back; oldest first.

        May be called in any thread; it looks at a file of each.
        """
        return self._listing.of(self._core, [each for each in self._visible() if (each.state == DELETED) == deleted])

    def info(self, reference: str) -> WorkspaceInfo:
        """One of them, deleted or not."""
        return self._core.info(self._find(reference))

    async def status(self, reference: str) -> WorkspaceInfo:
        """The same, with what its machine takes of the host's memory."""
        return await self._core.status(self._find(reference))

    async def update(self, reference: str, request: UpdateWorkspace) -> WorkspaceInfo:
        """Change its name and labels. Raises `InvalidRequest`, and `Conflict` where the name is in use."""
        core = self._core
        workspace_id = self._find(reference).workspace_id
        if request.name is not None:
            if request.clear_name:
                raise InvalidRequest("bad_name", "a name cannot be set and removed at once", "give one of the two")
            names.check_name(request.name)
        await to_the_end(asyncio.to_thread(core.records.describe, workspace_id, partial(_described, request)))
        return core.info(await core.record(workspace_id))

    async def start(self, reference: str) -> WorkspaceInfo:
        """Boot its machine, unless it runs."""

        async def start(core: Core, record: WorkspaceRecord) -> None:
            _refuse_deleted(record)
            await lifecycle.boot(core, record)

        return await self._alone(reference, start, to_its_end=False)

    async def stop(self, reference: str) -> WorkspaceInfo:
        """End its machine; it is not started again until somebody asks for that."""

        async def stop(core: Core, record: WorkspaceRecord) -> None:
            _refuse_deleted(record)
            await lifecycle.stop(core, record, BY_USER)

        return await self._alone(reference, stop)

    async def delete(self, reference: str) -> WorkspaceInfo:
        """End its machine and take it out of sight; it can be had back for a week. A deleted one stays as it is."""

        async def delete(core: Core, record: WorkspaceRecord) -> None:
            if record.state != DELETED:
                await lifecycle.delete(core, record)

        return await self._alone(reference, delete)

    async def reset(self, reference: str, request: ResetWorkspace) -> WorkspaceInfo:
        """Back to how it was created, and running; the disk that it had can be had back for a week."""

        async def reset(core: Core, record: WorkspaceRecord) -> None:
            _refuse_deleted(record)
            await lifecycle.reset(core, record, request)

        return await self._alone(reference, reset)

    async def restore(self, reference: str, request: RestoreWorkspace) -> WorkspaceInfo:
        """Undo its deletion, or its last reset. See `lifecycle.restore`."""

        async def restore(core: Core, record: WorkspaceRecord) -> None:
            await lifecycle.restore(core, record, request)

        return await self._alone(reference, restore)

    async def prune(self, request: PruneWorkspaces) -> PrunedWorkspaces:
        """Remove for good what `restore` could bring back, of one workspace or of all."""
        records = self._visible() if request.workspace is None else (self._find(request.workspace),)
        try:
            return await prune.prune(self._core, records, dry_run=request.dry_run)
        finally:
            if not request.dry_run:
                await asyncio.to_thread(self._core.records.reserve.keep)  # there may be room for it again

    @asynccontextmanager
    async def using(self, reference: str, report: Report | None = None) -> AsyncIterator[LiveWorkspace]:
        """Its guest, which stays for as long as the block runs; booted if it is stopped, but not by the user.

        That it was booted is told once, to the first who can be told: nothing of what ran in it before is left.
        Raises `NotFound`, `Conflict` (`workspace_stopped`, `workspace_deleted`), and as `lifecycle.boot` does.
        """
        core = self._core
        workspace_id = self._find(reference).workspace_id
        while True:
            async with core.holds.shared(workspace_id):
                live = core.machines.get(workspace_id)
                if live is not None:
                    async with live.used():
                        await news.tell(live.news, report)
                        yield live
                    return
            async with core.holds.exclusive(workspace_id):
                record = await core.record(workspace_id)
                _refuse_deleted(record)
                _refuse_stopped_by_user(record)
                await lifecycle.boot(core, record)
                if (live := core.machines.get(workspace_id)) is not None:
                    live.news.append(news.restarted(record))

    def runner_if_live(self, reference: str) -> CommandRunner | None:
        """Its commands, if its machine runs."""
        live = self._core.machines.get(self._find(reference).workspace_id)
        return None if live is None else live.runner

    def execs(self, reference: str) -> tuple[ExecInfo, ...]:
        """Its newest commands, oldest first."""
        return self._core.history.execs(self._find(reference).workspace_id)

    def exec(self, reference: str, exec_id: str) -> ExecInfo:
        """One of its commands. Raises `NotFound` (`unknown_command`)."""
        return self._core.history.exec(self._find(reference).workspace_id, exec_id)

    async def _start_unclaimed(self, environment: str) -> Unclaimed:
        core = self._core
        host = await self._find_host(quiet=True)  # nobody who could be told anything is here
        with self._new_ids.draw(core) as workspace_id:
            return await unclaimed.start(core.images, core.places, host, workspace_id, environment)

    @property
    def _core(self) -> Core:
        if isinstance(self._opened, Core):
            return self._opened
        # A new one each time: an exception that is raised again and again collects its tracebacks.
        error = self._opened
        raise type(error)(error.code, error.message, error.hint)

    def _open(self) -> Core:
        """Where the disk is full, with the room that is reserved: each open file of SQLite needs some."""
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            return self._open_files()
        except HostUnfit as error:
            if error.code != NO_SPACE:
                raise
            if not Reserve(self._home).give_up():  # then no `prune` can help either: it could not even look
                hint = f"free some space on the disk of {self._home}; pyro can do nothing there before"
                raise HostUnfit(error.code, error.message, hint) from error
        return self._open_files()

    def _open_files(self) -> Core:
        with ExitStack() as files:
            records = files.enter_context(closing(Records(self._home)))
            history = files.enter_context(closing(History(self._home)))
            history.forget_others({record.workspace_id for record in records.all()})
            records.when_removed(history.forget)
            core = self._core_on(records, history)
            files.pop_all()
            return core

    def _core_on(self, records: Records, history: History) -> Core:
        places = Places(self._home)
        machines = Machines(
            places,
            records=records,
            history=history,
            images=self._images,
            find_host=self._find_host,
            on_deadline=self._on_deadline,
        )
        return Core(places, records, history, Holds(), machines, self._images, self._find_host)

    def _close_files(self) -> None:
        if isinstance(self._opened, Core):
            self._opened.history.close()
            self._opened.records.close()

    def _visible(self) -> tuple[WorkspaceRecord, ...]:
        return tuple(record for record in self._core.records.all() if record.state != PURGED)

    def _find(self, reference: str) -> WorkspaceRecord:
        core = self._core
        try:
            return names.find(core.records.meant_by(reference), reference)
        except NotFound:
            return names.find(self._visible(), reference)  # which knows what else may have been meant

    async def _alone(
        self,
        reference: str,
        change: Callable[[Core, WorkspaceRecord], Coroutine[None, None, None]],
        *,
        to_its_end: bool = True,
    ) -> WorkspaceInfo:
        """Make a change while nobody else uses the workspace; the record may have changed while we waited for that."""
        core = self._core
        workspace_id = self._find(reference).workspace_id
        async with core.holds.exclusive(workspace_id):
            making = change(core, await core.record(workspace_id))
            await (to_the_end(making) if to_its_end else making)
            return core.info(await core.record(workspace_id))

    async def _adopt(self, core: Core, record: WorkspaceRecord, held: asyncio.Event) -> None:
        async with core.holds.exclusive(record.workspace_id):
            held.set()
            try:
                await adopt.take_over(core, record)
            except Exception:  # of this workspace alone; the others are taken over all the same
                log.exception("cannot take over %s", record.workspace_id)
            finally:
                self._adopting -= 1

    def _on_deadline(self, workspace_id: str) -> None:
        if isinstance(self._opened, Core):
            self._spawn(self._expire(self._opened, workspace_id))

    async def _expire(self, core: Core, workspace_id: str) -> None:
        try:
            async with core.holds.exclusive(workspace_id):
                record = await core.record(workspace_id)
                if record.state == RUNNING and record.expires_at is not None and is_past(record.expires_at):
                    await to_the_end(lifecycle.stop(core, record, EXPIRED))
        except Conflict:
            core.machines.postpone(workspace_id, _LATER_SECONDS)
        except PyroError as error:
            log.error("cannot stop %s, whose time is up: %s", workspace_id, error.message)

    async def _keep_house(self, core: Core) -> None:
        turn = 0
        while True:
            try:
                if turn % _PRUNE_EVERY == 0:
                    await prune.prune_old(core)
                await asyncio.to_thread(core.records.reserve.keep)
                await to_the_end(asyncio.to_thread(core.history.checkpoint))
                await asyncio.to_thread(cgroup.sweep)
            except (PyroError, OSError) as error:
                log.error("housekeeping of workspaces failed: %s", error)
            turn += 1
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _described(request: UpdateWorkspace, record: WorkspaceRecord) -> WorkspaceRecord:
    """The record with the name and the labels that it is to have. Raises `InvalidRequest`."""
    name = None if request.clear_name else record.name if request.name is None else request.name
    kept = {key: value for key, value in record.labels.items() if key not in request.clear_labels}
    labels = {**kept, **request.labels}
    names.check_labels(labels)
    return replace(record, name=name, labels=labels)


def _refuse_deleted(record: WorkspaceRecord) -> None:
    if record.state == DELETED:
        raise Conflict(
            "workspace_deleted",
            f"the workspace {record.workspace_id} is deleted",
            f"`pyro workspace restore {record.workspace_id}` brings it back",
        )


def _refuse_stopped_by_user(record: WorkspaceRecord) -> None:
    if record.state == STOPPED and record.stopped_because == BY_USER:
        raise Conflict(
            "workspace_stopped",
            f"the workspace {record.workspace_id} is stopped",
            f"`pyro workspace start {record.workspace_id}` starts it again",
        )
