"""The workspaces' machines that run: started, watched, ended, and handed from one daemon to the next.

Whoever starts or ends a machine here holds its workspace exclusively. A machine that ends by itself is seen by its
watch, which holds nothing: it writes down only what is still true of that very machine.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from pyro_mcp import tasks
from pyro_mcp.errors import GuestFailed
from pyro_mcp.guest.client import GuestClient
from pyro_mcp.guest.printable import printable
from pyro_mcp.images import store
from pyro_mcp.images.store import Store
from pyro_mcp.process import Detached
from pyro_mcp.process_watch import Watched
from pyro_mcp.to_the_end import to_the_end
from pyro_mcp.vmm import balloon, cgroup
from pyro_mcp.vmm.channel import to_agent
from pyro_mcp.vmm.routine_log import telling_lines
from pyro_mcp.workspace import kept
from pyro_mcp.workspace.commands import CommandRunner
from pyro_mcp.workspace.deadlines import Deadlines
from pyro_mcp.workspace.give_back import Resting
from pyro_mcp.workspace.heartbeat import Heartbeat
from pyro_mcp.workspace.history import History
from pyro_mcp.workspace.host import FindHost
from pyro_mcp.workspace.kept import KeptMachine
from pyro_mcp.workspace.leash import leashed
from pyro_mcp.workspace.places import Places
from pyro_mcp.workspace.record import MACHINE_DIED, RUNNING, WorkspaceRecord
from pyro_mcp.workspace.records import Records
from pyro_mcp.workspace.unclaimed import Unclaimed

log = logging.getLogger(__name__)
_ADOPT_SECONDS = 20.0  # that a guest may take to tell of its commands
_LAST_WORDS = 300  # characters


@dataclass(frozen=True)
class LiveWorkspace:
    """A workspace whose guest answers; `news` is what its user should know about it and has not been told."""

    workspace_id: str
    guest: GuestClient
    runner: CommandRunner
    resting: Resting
    heartbeat: Heartbeat
    news: list[str]

    @asynccontextmanager
    async def used(self) -> AsyncIterator[None]:
        """Its guest is used while the block runs: it has all its memory, and is watched."""
        with self.heartbeat.used():
            async with self.resting.used():
                yield


@dataclass
class _Live:
    workspace: LiveWorkspace
    machine: KeptMachine
    watch: "asyncio.Task[None] | None" = None


class Machines:
    """The machines of one PYRO_HOME that run; `on_deadline` is called with the id of one whose time is up."""

    def __init__(
        self,
        places: Places,
        *,
        records: Records,
        history: History,
        images: Store,
        find_host: FindHost,
        on_deadline: Callable[[str], None],
    ) -> None:
        self._places = places
        self._records = records
        self._history = history
        self._images = images
        self._find_host = find_host
        self._deadlines = Deadlines(on_deadline)
        self._live: dict[str, _Live] = {}
        self._watches: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """How many run."""
        return len(self._live)

    def get(self, workspace_id: str) -> LiveWorkspace | None:
        """The workspace, if its machine runs; one that has just died does not, whether its watch knows it or not."""
        live = self._live.get(workspace_id)
        return None if live is None or live.machine.is_gone else live.workspace

    async def start(self, record: WorkspaceRecord, expires_at: str | None, *, keep: bool = True) -> None:
        """Boot the machine of a workspace that has none running, with `record.disk`, which counts once it answers.

        A disk that it replaces is kept instead of the one kept before, or with `keep` off is kept no longer itself.

        Raises `HostUnfit`, `NotFound` or `SourceFailed` (its image), `GuestFailed`; then, and when cancelled before its
        guest answers, nothing runs. Until its record says that it runs, the machine ends with the daemon.
        """
        await self.end(record, orderly=False)  # one that died, and whose watch does not know it yet
        async with leashed() as hold:
            try:
                machine = await self._boot(record, hold)
            except BaseException:
                await to_the_end(asyncio.to_thread(self._not_started, record))
                raise
            await to_the_end(self._started(record, machine, expires_at, keep=keep))

    async def claim(self, record: WorkspaceRecord, machine: Unclaimed, expires_at: str | None) -> bool:
        """Give it a machine that was there before it; False if that one fails, which is still to be ended then."""
        try:
            begun = await machine.begin(seed=record.seed is not None)
        except GuestFailed as error:
            log.warning("the machine that was ready for %s fails: %s", record.workspace_id, error.message)
            return False
        await to_the_end(self._started(record, begun, expires_at, keep=True))
        return True

    async def adopt(self, record: WorkspaceRecord, process: Detached) -> bool:
        """Find a machine again that another daemon started; False if it is gone, or was ended because it is silent."""
        try:
            machine = await kept.find_again(process, to_agent(record.vmm, self._places.vmm_folder(record.workspace_id)))
            if machine is None:
                return False
            live = self._joined(record, machine)
            await self._adopt_commands(live)
        except GuestFailed as error:
            log.warning("%s cannot be taken over: %s", record.workspace_id, error.message)
            return False
        self._watch(live, record.expires_at)
        return True

    async def end(self, record: WorkspaceRecord, *, orderly: bool = True) -> None:
        """End its machine, if one runs; what is written down of it is the caller's."""
        live = self._live.pop(record.workspace_id, None)
        if live is not None:
            await to_the_end(self._end(live, orderly=orderly))
        elif record.process is not None:
            await to_the_end(kept.kill(record.process))
        await asyncio.to_thread(self._clear_up, record.workspace_id)

    async def leave_commands(self) -> None:
        """Let go of the commands in all machines; they go on."""
        for live in list(self._live.values()):
            await live.workspace.runner.detach()

    async def close(self) -> None:
        """Let go of all machines; they live on."""
        self._deadlines.close()
        for watch in list(self._watches):
            await tasks.end(watch)
        for live in list(self._live.values()):
            await live.workspace.runner.detach()
            await _let_rest(live)
            await live.machine.leave()
        self._live.clear()

    def postpone(self, workspace_id: str, seconds: float) -> None:
        """Call `on_deadline` for it again so much later."""
        self._deadlines.set_in(workspace_id, seconds)

    async def _boot(self, record: WorkspaceRecord, hold: Callable[[Detached], None]) -> KeptMachine:
        host = await self._find_host(quiet=True)  # `create` has told, others cannot

        def before_start(process: Detached) -> None:
            hold(process)
            self._records.starting(record.workspace_id, host.driver.name, process)

        with await store.open_digest(self._images, record.environment, record.digest) as image:
            return await kept.start(host, image.path, record, self._places, before_start)

    async def _started(
        self, record: WorkspaceRecord, machine: KeptMachine, expires_at: str | None, *, keep: bool
    ) -> None:
        try:
            running = partial(self._records.running, record.workspace_id, expires_at, record.disk, keep=keep)
            await asyncio.to_thread(running)
        except BaseException:
            await machine.end(orderly=False)
            raise
        self._watch(self._joined(record, machine), expires_at)

    def _not_started(self, record: WorkspaceRecord) -> None:
        self._clear_up(record.workspace_id)
        if record.state == RUNNING:  # its machine has died, and nobody has said so yet
            self._records.stopped(record.workspace_id, MACHINE_DIED)
        else:
            self._records.ended(record.workspace_id)

    def _clear_up(self, workspace_id: str) -> None:
        """Remove what a VMM that has been ended left."""
        self._places.remove_vmm_folder(workspace_id)
        cgroup.remove(cgroup.name_for(self._places.vmm_folder(workspace_id)))

    def _joined(self, record: WorkspaceRecord, machine: KeptMachine) -> _Live:
        workspace_id, guest = record.workspace_id, machine.guest
        runner = CommandRunner(workspace_id, guest, self._history)
        its_balloon = balloon.of(self._places.vmm_folder(workspace_id))

        def busy() -> bool:
            return runner.active > 0

        resting = Resting(guest, its_balloon, record.mem_mib, busy)
        on_halt = partial(_end_halted, workspace_id, machine.vmm)
        heartbeat = Heartbeat(guest, machine.process, busy=busy, on_halt=on_halt)
        return _Live(LiveWorkspace(workspace_id, guest, runner, resting, heartbeat, list(machine.news)), machine)

    async def _adopt_commands(self, live: _Live) -> None:
        try:
            async with asyncio.timeout(_ADOPT_SECONDS):
                await live.workspace.runner.adopt()
                await live.workspace.resting.take_over()
        except TimeoutError:
            await to_the_end(live.machine.end(orderly=False))
            raise GuestFailed("guest_silent", "its agent does not tell of its commands") from None
        except GuestFailed:
            await to_the_end(live.machine.end(orderly=False))
            raise
        except BaseException:
            await to_the_end(live.machine.leave())
            raise

    def _watch(self, live: _Live, expires_at: str | None) -> None:
        workspace_id = live.workspace.workspace_id
        self._live[workspace_id] = live
        live.workspace.resting.begin()
        live.workspace.heartbeat.begin()  # for commands that an earlier daemon started
        self._deadlines.set(workspace_id, expires_at)
        live.watch = asyncio.create_task(self._see_its_end(live))
        self._watches.add(live.watch)
        live.watch.add_done_callback(self._watches.discard)

    async def _see_its_end(self, live: _Live) -> None:
        workspace_id = live.workspace.workspace_id
        await live.machine.gone()
        if self._live.get(workspace_id) is not live:
            return
        words = " ".join(telling_lines(live.machine.console())).split()
        said = printable(" ".join(words)[-_LAST_WORDS:])
        why = live.workspace.guest.session.ended or "its VMM has ended"
        log.warning("the machine of %s ended by itself (%s); its last words: %s", workspace_id, why, said or "none")
        del self._live[workspace_id]
        self._deadlines.set(workspace_id, None)
        # At once: as soon as anybody else gets their turn, the folder may be another VMM's.
        self._places.remove_vmm_folder(workspace_id)
        await to_the_end(self._bury(live))

    async def _bury(self, live: _Live) -> None:
        try:
            stopped = self._records.stopped
            await asyncio.to_thread(stopped, live.workspace.workspace_id, MACHINE_DIED, live.machine.process)
        finally:
            await _let_rest(live)
            await live.workspace.runner.close()
            await live.machine.end(orderly=False)

    async def _end(self, live: _Live, *, orderly: bool) -> None:
        self._deadlines.set(live.workspace.workspace_id, None)
        if live.watch is not None:
            await tasks.end(live.watch)
        await _let_rest(live)
        await live.workspace.runner.close()
        await live.machine.end(orderly=orderly)


async def _let_rest(live: _Live) -> None:
    await live.workspace.heartbeat.end()
    await live.workspace.resting.end()


def _end_halted(workspace_id: str, vmm: Watched) -> None:
    """End a machine whose guest has stopped; whoever waits for it is told, and its watch sees to the rest."""
    log.warning("the guest of %s gives no sign of life and does nothing: its machine is ended", workspace_id)
    vmm.kill()
