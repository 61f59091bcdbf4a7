"""Serving the local API until it is told to stop or nobody has wanted it for a while."""

import asyncio
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from pyro_mcp.config import Settings
from pyro_mcp.daemon.activity import Activity
from pyro_mcp.daemon.app import Daemon, create_app
from pyro_mcp.daemon.place import DaemonPlace
from pyro_mcp.images.store import Store
from pyro_mcp.vmm import confine

log = logging.getLogger(__name__)
_GRACEFUL_SECONDS = 2  # that requests under way get when the daemon is told to stop


def serve(socket_fd: int, lock_fd: int) -> None:
    """Serve on a listening socket; `lock_fd` is the lock that stays held for as long as this process lives."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = Settings.from_environment()
    log.info("daemon starts, lock on descriptor %d, %s", lock_fd, settings.describe())
    asyncio.run(_serve(settings, socket.socket(fileno=socket_fd)))
    # Still under the lock, so this is our own socket and no newer daemon's.
    DaemonPlace(settings.home).socket_path.unlink(missing_ok=True)
    log.info("daemon ends")


async def _serve(settings: Settings, listener: socket.socket) -> None:
    unconfined = await confine.why_unconfinable()
    if unconfined is not None:
        log.warning("VMMs run with less confinement: %s", unconfined)
    server: _Server

    def stop() -> None:
        server.should_exit = True

    daemon = Daemon(settings, Activity(stop), unconfined is None, stop, Store(settings.cache_dir))
    server = _Server(
        uvicorn.Config(
            create_app(daemon),
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
    await server.serve(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling, which would end the process before machines are cleaned up."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
