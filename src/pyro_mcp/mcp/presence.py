"""Tells the daemon that a chat host is connected, so that it has a machine ready when a workspace is asked for.

This is nobody's request: whatever goes wrong here, nobody hears of it.
"""

import contextlib
import threading

from pyro_mcp import models
from pyro_mcp.config import Settings
from pyro_mcp.daemon.client import DaemonClient
from pyro_mcp.daemon.http import BadAnswer, Connection
from pyro_mcp.daemon.place import DaemonPlace
from pyro_mcp.daemon.requests import begin
from pyro_mcp.errors import PyroError
from pyro_mcp.models import ChatHost
from pyro_mcp.version import __version__

_PATH = "/v1/chats"  # of `daemon.chats`, from where it is not imported: that would import starlette, which takes long
_LOOK_AGAIN_SECONDS = 2.0


def be_present(*, makes_workspaces: bool) -> None:
    """Start the daemon if there is none, and be there for it, in a thread of its own for as long as this process lives.

    Daemons that others start later are told, too, but none is started for that. A chat host that makes no workspaces
    needs nothing ready.
    """
    threading.Thread(target=_be_present, args=(makes_workspaces,), name="presence", daemon=True).start()


def _be_present(makes_workspaces: bool) -> None:
    with contextlib.suppress(PyroError, OSError):
        settings = Settings.from_environment()
        with contextlib.suppress(PyroError, OSError):
            DaemonClient(settings).ask("GET", "/v1/hello")
        if makes_workspaces and settings.pool > 0:
            _tell_daemons(settings, threading.Event())


def _tell_daemons(settings: Settings, over: threading.Event) -> None:
    """Tell each daemon that there is, once: one that refuses is left alone."""
    place = DaemonPlace(settings.home)
    told: object = None
    while not over.is_set():
        daemon = place.socket_identity()
        if daemon is not None and daemon != told:
            with contextlib.suppress(PyroError, OSError, BadAnswer):
                _stay_connected(place, settings)
            told = daemon
        over.wait(_LOOK_AGAIN_SECONDS)


def _stay_connected(place: DaemonPlace, settings: Settings) -> None:
    """Returns when the daemon ends."""
    host = ChatHost(__version__, settings.describe(), settings.pool)
    with contextlib.closing(Connection(place.connect())) as connection:
        begin(connection, "POST", _PATH, models.encode(host)).read()
