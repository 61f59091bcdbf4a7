"""Giving up a call from outside: the connection that it uses breaks, wherever the call is."""

import threading
from typing import TYPE_CHECKING

from pyro_mcp.daemon.gone import DaemonGone

if TYPE_CHECKING:
    from pyro_mcp.daemon.http import Connection


class Abort:
    """Breaks the connections of one call, those that it uses now and those that it would use later."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()
        self._aborted = False

    def add(self, connection: "Connection") -> None:
        """The call uses this connection from now on. Raises `DaemonGone` if it was given up already."""
        with self._lock:
            if self._aborted:
                raise DaemonGone
            self._connections.add(connection)

    def remove(self, connection: "Connection") -> None:
        """The call uses this connection no more; others may."""
        with self._lock:
            self._connections.discard(connection)

    def abort(self) -> None:
        """From any thread: give the call up."""
        with self._lock:
            self._aborted = True
            for connection in self._connections:
                connection.shut_down()
