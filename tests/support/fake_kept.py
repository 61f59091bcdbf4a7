"""Machines that outlive a daemon, whose guests are fake agents: for the workspace engine without real guests.

The VMM is a process that does nothing, detached like a real one, with the disk locked like a real one. What a guest has
in `/workspace` is a folder of the host, one for each disk, so it is there again when the disk is.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from pyro_mcp.errors import HostUnfit
from pyro_mcp.images.pull import pull
from pyro_mcp.images.store import Store
from pyro_mcp.process import Detached, spawn_detached
from pyro_mcp.process_watch import Watched, wait_for_end
from pyro_mcp.start_gate import behind
from pyro_mcp.vmm.channel import AGENT_SOCKET, to_agent
from pyro_mcp.vmm.machine import MachineSpec, OpenChannel
from pyro_mcp.vmm.template import Template
from pyro_mcp.workspace.engine import Workspaces
from pyro_mcp.workspace.host import Host
from pyro_mcp.workspace.template_stages import WAITING, Stage
from tests.support.fake_agent import AgentStream, FakeAgent
from tests.support.fake_commands import FakeGuest
from tests.support.pace import patience
from tests.support.waiting import wait_until
from tests.support.wire import Wire
from tests.unit.images.fake_source import FakeSource


class Guest(FakeGuest):
    """A guest that can be switched off."""

    def __init__(self, folder: Path, process: Detached) -> None:
        super().__init__(folder)
        self.process = process
        self.sessions = 0  # that were begun with it
        self.told: list[tuple[bytes, Any]] = []  # of what machine it is
        self.stubborn = False

    async def _poweroff(self, stream: AgentStream, _request: dict[str, Any]) -> None:
        await stream.say(type="ok")
        if not self.stubborn:
            self.die()

    def die(self) -> None:
        """End the machine, as from within."""
        kill(self.process)


@dataclass
class Boots:
    """What was booted. `mute` guests do not answer when they are booted; one is taken off with each boot."""

    folder: Path
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    specs: list[MachineSpec] = field(default_factory=list)
    guests: list[Guest] = field(default_factory=list)
    mute: int = 0
    unfit: bool = False
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    @property
    def alive(self) -> int:
        """How many VMMs run."""
        return sum(runs(guest.process) for guest in self.guests)

    async def close(self) -> None:
        """End what still runs."""
        for guest in self.guests:
            guest.die()
            await guest.close()
        while self.tasks:
            await asyncio.wait(self.tasks)


@dataclass(frozen=True)
class FakeKeptDriver:
    """Starts machines whose guests are in `boots`."""

    boots: Boots
    console: bool = False
    name: str = "fake"

    listens_at: str = AGENT_SOCKET

    def with_console(self) -> "FakeKeptDriver":
        """See `Driver.with_console`."""
        return replace(self, console=True)

    def channel(self, spec: MachineSpec, folder: Path, listener: socket.socket) -> OpenChannel:
        """See `Driver.channel`."""
        listener.close()  # it has its own, and while others have it, too, a dead VMM seems to listen
        return to_agent(self.name, folder)

    def start_kept(
        self,
        spec: MachineSpec,
        folder: Path,
        listener: socket.socket,
        log_fd: int,
        before_start: Callable[[Detached], None],
    ) -> Detached:
        """See `Driver.start_kept`."""
        if self.boots.unfit:
            raise HostUnfit("no_vmm", "there is no VMM")
        process = spawn_detached(
            behind(["sh", "-c", r"printf 'the guest\033[2J speaks\n'; exec sleep 1000"]),
            env={"PATH": os.defpath},
            pass_fds=(spec.disk_fd,),
            output=log_fd,
            limits={},
            before_start=before_start,
        )
        wait_until(lambda: b"speaks" in os.pread(log_fd, 1000, 0) or not runs(process))
        disk = os.fstat(spec.disk_fd)
        ours = listener.dup()
        asyncio.run_coroutine_threadsafe(
            self._serve(spec, ours, process, f"disk-{disk.st_ino}"), self.boots.loop
        ).result()
        return process

    async def _serve(self, spec: MachineSpec, listener: socket.socket, process: Detached, disk: str) -> None:
        boots = self.boots
        folder = boots.folder / disk
        folder.mkdir(exist_ok=True)
        guest = Guest(folder, process)
        if boots.mute > 0:
            boots.mute -= 1
            guest.deaf = {"hello"}
        boots.specs.append(spec)
        boots.guests.append(guest)
        task = asyncio.create_task(_live(guest, listener, process))
        boots.tasks.add(task)
        task.add_done_callback(boots.tasks.discard)


async def _live(guest: Guest, listener: socket.socket, process: Detached) -> None:
    """Answer whoever connects until the VMM is gone."""
    sessions: set[asyncio.Task[None]] = set()

    def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        guest.sessions += 1
        if "hello" in guest.deaf:
            task = asyncio.create_task(_hang(writer))
        else:
            task = asyncio.create_task(FakeAgent(Wire(reader, writer), guest, guest.told).serve())
        sessions.add(task)
        task.add_done_callback(sessions.discard)

    server = await asyncio.start_unix_server(session, sock=listener)
    vmm = Watched.find(process)
    if vmm is not None:
        await vmm.wait()
        vmm.close()
    server.close()
    for task in list(sessions):
        task.cancel()
    if sessions:
        await asyncio.wait(list(sessions))


async def _hang(writer: asyncio.StreamWriter) -> None:
    try:
        await asyncio.Future()
    finally:
        writer.transport.abort()


def runs(process: Detached) -> bool:
    """Whether a detached process runs."""
    watched = Watched.find(process)
    if watched is None:
        return False
    watched.close()
    return True


def kill(process: Detached) -> None:
    """End a detached process; it has ended when this returns."""
    watched = Watched.find(process)
    if watched is not None:
        watched.kill()
        watched.close()
        assert wait_for_end(process.pid, patience(30))


async def only_close(vmm: Watched) -> None:
    """Leave a VMM running, as a daemon that is killed does; what that had open is closed."""
    vmm.close()


@dataclass
class _FakeTemplates:
    """Every machine begins as the copy of a template, which its driver does not even look at."""

    discarded: list[str]

    async def begin_from(self, _host: Host, spec: MachineSpec, _stage: Stage = WAITING) -> MachineSpec:
        return replace(spec, template=Template(Path("/template")))

    async def discard(self, _template: Template, why: str) -> bool:
        """See `Templates.discard`."""
        self.discarded.append(why)
        return True

    def note_copy(self, _template: Template, _took_ms: int) -> None:
        """See `Templates.note_copy`."""


@dataclass
class Engine:
    """A PYRO_HOME with an installed environment, and the daemon's engine on it.

    `discarded` is why templates were thrown away.
    """

    home: Path
    images: Store
    boots: Boots
    notice: str | None = None
    templates: bool = False
    discarded: list[str] = field(default_factory=list)

    def workspaces(self, slots: int = 4) -> Workspaces:
        """The engine of a daemon that has just started."""
        host = Host(
            images=self.images,
            bundle=cast("Any", SimpleNamespace(kernel="/k", initramfs="/i", modules="/m")),
            driver=cast("Any", FakeKeptDriver(self.boots)),
            boot_slots=asyncio.Semaphore(slots),
            notice=self.notice,
            templates=cast("Any", _FakeTemplates(self.discarded)) if self.templates else None,
        )

        async def find_host(*, quiet: bool = False) -> Host:
            return replace(host, notice=None) if quiet else host

        return Workspaces(self.home, self.images, find_host)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Workspaces]:
        """A daemon's life."""
        workspaces = self.workspaces()
        await workspaces.open()
        try:
            yield workspaces
        finally:
            await workspaces.close()


@asynccontextmanager
async def fake_engine(folder: Path) -> AsyncIterator[Engine]:
    """What an engine needs, with no machine left at the end."""
    images = Store(folder / "cache")
    await pull(images, "debian:12", FakeSource(), lambda progress: None)
    guests = folder / "guests"
    guests.mkdir()
    boots = Boots(guests)
    try:
        yield Engine(folder / "home", images, boots)
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(30):
                await boots.close()
