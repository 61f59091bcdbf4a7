"""Machines that outlive the daemon: booted from a workspace's files, found again, left, and ended."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pyro_mcp import tasks
from pyro_mcp.errors import GuestFailed, HostUnfit, InternalError
from pyro_mcp.guest import client
from pyro_mcp.guest.identity import Identity, of_workspace
from pyro_mcp.images import locks
from pyro_mcp.process import Detached
from pyro_mcp.process_watch import Watched
from pyro_mcp.to_the_end import to_the_end
from pyro_mcp.vmm import channel
from pyro_mcp.vmm.machine import Driver, MachineSpec, OpenChannel
from pyro_mcp.workspace import boot, last_words
from pyro_mcp.workspace.host import Host
from pyro_mcp.workspace.places import Places
from pyro_mcp.workspace.record import WorkspaceRecord

log = logging.getLogger(__name__)
_ADOPTED_SECONDS = 20.0  # within which a machine that is found again must answer
_BEGUN_SECONDS = 20.0  # that the copy of a template may take until its guest waits
# That a guest which waits may take to become a workspace's, which takes it milliseconds. No longer: another one begins
# in less.
_CLAIMED_SECONDS = 2.0
_ORDERLY_SECONDS = 10.0  # that a guest may take to put its disk in order
_KILLED_SECONDS = 10.0  # that the kernel may take to end a process, which takes it milliseconds
_DISK_SECONDS = 10.0  # that the last user of a disk may take to let go of it, being dead already
_LOOK_AGAIN_SECONDS = 0.02


@dataclass(frozen=True)
class KeptMachine:
    """A running VMM and a session with its guest's agent; `leave` it or `end` it.

    `news` is what its user should know about its start.
    """

    process: Detached
    vmm: Watched
    guest: client.GuestClient
    session: AsyncExitStack
    console: Callable[[], str]
    news: tuple[str, ...] = ()

    @property
    def is_gone(self) -> bool:
        """Whether the VMM or the session with its guest has ended."""
        return self.guest.closed.is_set() or not self.vmm.alive

    async def gone(self) -> None:
        """Wait until the VMM or the session with its guest has ended."""
        await tasks.first_of(self.vmm.wait(), self.guest.closed.wait())

    async def leave(self) -> None:
        """End the session; the machine lives on."""
        await self.session.aclose()
        self.vmm.close()

    async def end(self, *, orderly: bool) -> None:
        """End the machine; `orderly` gives its guest 10 seconds to put its disk in order first."""
        if orderly:
            with contextlib.suppress(TimeoutError, GuestFailed):
                async with asyncio.timeout(_ORDERLY_SECONDS):
                    await self.guest.poweroff()
                    await self.vmm.wait()
        await _kill(self.vmm)
        await self.leave()


@dataclass
class WaitingMachine:
    """A running VMM whose guest waits for the word to become its machine; it gets that, or is to be ended."""

    process: Detached
    vmm: Watched
    open_channel: OpenChannel
    printed: channel.BoundedLog

    async def become(self, identity: Identity) -> KeptMachine:
        """Tell its guest. Raises `GuestFailed` where that does not answer; then, or when cancelled, `end` it."""
        console = self.printed.text
        machine = await _reach(self.process, self.vmm, self.open_channel, _CLAIMED_SECONDS, console, identity=identity)
        machine.session.callback(self.printed.close)
        return machine

    async def end(self) -> None:
        """End it, unless it became a machine."""
        try:
            await _kill_and_close(self.vmm)
        finally:
            self.printed.close()


async def start(
    host: Host, image: Path, record: WorkspaceRecord, places: Places, before_start: Callable[[Detached], None]
) -> KeptMachine:
    """Boot a workspace's machine; `before_start` is called in another thread with each VMM that is tried.

    Raises `HostUnfit`, or `GuestFailed` if the guest does not come up; nothing runs then, nor if this is cancelled.
    """
    disk = await open_disk(places.disk(record))
    try:
        seed = places.seed(record.workspace_id)
        plain = boot.machine_spec(host, image, disk, vcpu_count=record.vcpu_count, mem_mib=record.mem_mib)
        has_seed = record.seed is not None
        wanted = replace(plain, durable=True, seed=seed if has_seed else plain.seed)
        identity = of_workspace(record.workspace_id, seed=has_seed)

        async def attempt(trial: boot.Trial) -> KeptMachine:
            spec = await trial.equipped(wanted)
            async with host.boot_slots, trial.timed():
                folder = await asyncio.to_thread(places.fresh_vmm_folder, record.workspace_id)
                start = _Start(trial.driver, spec, folder, before_start)
                return await _boot(start, identity, trial.ready_seconds)

        news: list[str] = []

        async def tell(text: str) -> None:
            news.append(text)

        machine = await boot.twice(host, attempt, tell)
        return replace(machine, news=tuple(news))
    finally:
        os.close(disk)


async def start_waiting(
    driver: Driver, copy: MachineSpec, folder: Path, identity: Identity, before_start: Callable[[Detached], None]
) -> WaitingMachine:
    """Begin a template's copy whose guest has done all that it can before it becomes the machine of that `identity`.

    `folder` is its VMM's own, and empty. Raises `HostUnfit`, or `GuestFailed` if no guest comes up; nothing runs then,
    nor if this is cancelled.
    """
    with _log_of_start() as printed:
        async with _vmm(_Start(driver, copy, folder, before_start), printed) as (process, vmm, opening):
            alive = channel.while_alive(opening, vmm.wait)
            await client.prepare(alive, identity, timeout_seconds=_BEGUN_SECONDS)
            return WaitingMachine(process, vmm, channel.to_agent(driver.name, folder), printed)


async def find_again(process: Detached, open_channel: OpenChannel) -> KeptMachine | None:
    """The machine of that VMM, whose agent `open_channel` reaches, or None if it does not run any more.

    Raises `GuestFailed` where its guest is silent; it is ended then, but not if this is cancelled.
    """
    vmm = Watched.find(process)
    if vmm is None:
        return None
    try:
        return await _reach(process, vmm, open_channel, _ADOPTED_SECONDS, lambda: "")
    except asyncio.CancelledError:
        vmm.close()
        raise
    except BaseException:
        await to_the_end(_kill_and_close(vmm))
        raise


async def kill(process: Detached) -> None:
    """End a VMM, if it still runs."""
    vmm = Watched.find(process)
    if vmm is not None:
        await _kill_and_close(vmm)


@dataclass(frozen=True)
class _Start:
    """A machine to be started: by which driver, and in which folder of its VMM's own."""

    driver: Driver
    spec: MachineSpec
    folder: Path
    before_start: Callable[[Detached], None]

    def run(self, listener: socket.socket, log_fd: int) -> Detached:
        """Start the VMM; blocks."""
        return self.driver.start_kept(self.spec, self.folder, listener, log_fd, self.before_start)


async def _boot(start: _Start, identity: Identity, ready_seconds: float) -> KeptMachine:
    with _log_of_start() as printed:
        async with _vmm(start, printed) as (process, vmm, opening):
            machine = await _reach(process, vmm, opening, ready_seconds, printed.text, identity=identity)
    machine.session.callback(printed.close)
    return machine


@contextmanager
def _log_of_start() -> Iterator[channel.BoundedLog]:
    """What a VMM prints. Where its start fails in the block that is told, and the log closed."""
    printed = channel.BoundedLog()
    try:
        yield printed
    except GuestFailed as error:
        said = last_words.explained(error, printed.text())
        printed.close()
        raise said from error
    except OSError as error:
        printed.close()
        raise boot.not_started(error) from error
    except BaseException:
        printed.close()
        raise


@asynccontextmanager
async def _vmm(start: _Start, printed: channel.BoundedLog) -> AsyncIterator[tuple[Detached, Watched, OpenChannel]]:
    """A VMM that has just been started, and the channel to its agent; it is ended if the block fails."""
    with channel.listening(start.folder / start.driver.listens_at) as listener:
        process = await _spawn(start, listener, printed.fd)
        vmm = Watched.find(process)
        if vmm is None:
            raise _gone_at_once()
        try:
            yield process, vmm, start.driver.channel(start.spec, start.folder, listener)
        except BaseException:
            await to_the_end(_kill_and_close(vmm))
            raise


async def _spawn(start: _Start, listener: socket.socket, log_fd: int) -> Detached:
    unwanted: list[Detached] = []
    try:
        return await to_the_end(asyncio.to_thread(start.run, listener, log_fd), unwanted.append)
    except ProcessLookupError:
        raise _gone_at_once() from None
    finally:
        for process in unwanted:  # started, but cancelled meanwhile
            await to_the_end(kill(process))


def _gone_at_once() -> GuestFailed:
    return GuestFailed("guest_gone", "the machine ended as soon as it was started", "run `pyro doctor`")


async def _reach(
    process: Detached,
    vmm: Watched,
    open_channel: OpenChannel,
    ready_seconds: float,
    console: Callable[[], str],
    *,
    identity: Identity | None = None,
) -> KeptMachine:
    """A session with a machine's guest. Raises `GuestFailed`."""
    async with AsyncExitStack() as stack:
        opening = channel.while_alive(open_channel, vmm.wait)
        session = client.reconnect(opening, timeout_seconds=ready_seconds, identity=identity)
        guest = await stack.enter_async_context(session)
        return KeptMachine(process, vmm, guest, stack.pop_all(), console)


async def _kill(vmm: Watched) -> None:
    vmm.kill()
    try:
        async with asyncio.timeout(_KILLED_SECONDS):
            await vmm.wait()
    except TimeoutError:
        log.error("a VMM has not ended %g s after it was killed", _KILLED_SECONDS)


async def _kill_and_close(vmm: Watched) -> None:
    try:
        await _kill(vmm)
    finally:
        vmm.close()


async def open_disk(path: Path) -> int:
    """A disk, locked for as long as anybody has this descriptor: no two machines ever write to one disk.

    Raises `HostUnfit`, and `InternalError` where another machine still has it.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise HostUnfit(
            "disk_gone", f"the workspace's disk cannot be used: {error}", "pyro workspace restore"
        ) from None
    try:
        async with asyncio.timeout(_DISK_SECONDS):
            while not locks.try_lock(fd):  # noqa: ASYNC110  (a lock tells nobody when it is free)
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)
    except BaseException as error:
        os.close(fd)
        if isinstance(error, TimeoutError):
            raise InternalError("disk_in_use", f"another machine still has {path.name}", "pyro doctor") from None
        raise
    return fd
