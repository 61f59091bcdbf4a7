"""Serving the local API until it is told to stop or nobody has wanted it for a while."""

import asyncio
import logging
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import uvicorn

from pyro_mcp import tasks
from pyro_mcp.config import Settings
from pyro_mcp.daemon.activity import Activity
from pyro_mcp.daemon.app import Daemon, create_app
from pyro_mcp.daemon.chats import Chats
from pyro_mcp.daemon.http import DAEMON, whose
from pyro_mcp.daemon.place import DaemonPlace
from pyro_mcp.images.store import Store
from pyro_mcp.version import __version__
from pyro_mcp.vmm import cgroup, confine
from pyro_mcp.vmm.own_folder import remove_leftovers
from pyro_mcp.workspace.engine import Workspaces
from pyro_mcp.workspace.host import default_boot_slots, verified_host
from pyro_mcp.workspace.templates import FOLDER, Templates
from pyro_mcp.workspace.vmm_choice import VmmChoice, run_dir

log = logging.getLogger(__name__)
# Not all that there may be: programs that it starts (apt, for one) close every descriptor that they could have.
_DESCRIPTORS = 16 * 1024
_GRACEFUL_SECONDS = 2  # that requests under way get when the daemon is told to stop


def serve(socket_fd: int, lock_fd: int) -> None:
    """Serve on a listening socket; `lock_fd` is the lock that stays held for as long as this process lives."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = Settings.from_environment()
    log.info("daemon starts, lock on descriptor %d, %s", lock_fd, settings.describe())
    _take_enough_descriptors()
    asyncio.run(_serve(settings, socket.socket(fileno=socket_fd)))
    # Still under the lock, so this is our own socket and no newer daemon's.
    DaemonPlace(settings.home).socket_path.unlink(missing_ok=True)
    log.info("daemon ends")


def _take_enough_descriptors() -> None:
    """Each running workspace takes some five; the soft limit that shells have is made for programs that use select."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < min(_DESCRIPTORS, hard):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(_DESCRIPTORS, hard), hard))


async def _serve(settings: Settings, listener: socket.socket) -> None:
    unconfined = await confine.why_unconfinable()
    if unconfined is not None:
        log.warning("VMMs run with less confinement: %s", unconfined)
    told_to_end = asyncio.Event()
    stop = told_to_end.set
    images, boot_slots = Store(settings.cache_dir), default_boot_slots()
    choice = VmmChoice(settings, confined=unconfined is None)
    templates = Templates(settings.cache_dir / FOLDER) if settings.templates == "on" else None
    find_host = partial(verified_host, settings, images, boot_slots, choice, templates)
    await asyncio.to_thread(_clear_up, settings)
    workspaces = Workspaces(settings.home, images, find_host)
    activity = Activity(stop, is_wanted=lambda: workspaces.running > 0)
    # What is kept ready begins from a template.
    chats = Chats(workspaces.pool.want if templates is not None else _want_nothing)
    daemon = Daemon(
        settings, activity, stop, images, find_host, workspaces=workspaces, templates=templates, chats=chats
    )
    server = _Server(
        uvicorn.Config(
            create_app(daemon),
            headers=[(DAEMON.decode(), whose(__version__, settings.describe()).decode())],
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=_GRACEFUL_SECONDS,
        )
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await workspaces.open()
    ending = asyncio.create_task(_end_when_told(told_to_end, workspaces, chats, server))
    try:
        await server.serve(sockets=[listener])
    finally:
        await tasks.end(ending)
        await workspaces.close()


def _want_nothing(_count: int, _somebody_came: bool) -> None:
    """In place of `Pool.want` where there can be none."""


def _clear_up(settings: Settings) -> None:
    """Remove what VMMs left that the last daemon did not see the end of."""
    remove_leftovers(run_dir(settings))
    if cgroup.find() is None:
        log.info("VMMs have no control groups here")
    cgroup.sweep()


async def _end_when_told(told: asyncio.Event, workspaces: Workspaces, chats: Chats, server: uvicorn.Server) -> None:
    await told.wait()
    chats.end()
    # Before requests are cancelled: a client that is cut off by our end must not take its command in the guest along.
    try:
        await workspaces.leave_commands()
    finally:
        server.should_exit = True


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling, which would end the process before machines are cleaned up."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
