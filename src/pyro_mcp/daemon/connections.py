"""Connections that are kept open between requests."""

import os
import threading
import time

from pyro_mcp.daemon.http import Connection

# Well below the five seconds after which the server closes a connection that rests: a request must not cross that.
_REST_SECONDS = 2.0
_MOST = 8


class Connections:
    """Connections to a daemon of our version and settings, which has answered on them. They close with this."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._resting: list[tuple[float, Connection]] = []
        self._owner = os.getpid()

    def __del__(self) -> None:
        self.close()

    def take(self) -> Connection | None:
        """A connection that still stands, or None."""
        with self._lock:
            if self._owner != os.getpid():
                # A fork: these are the parent's, and two processes must not speak on one.
                self._resting.clear()
                self._owner = os.getpid()
            while self._resting:
                since, connection = self._resting.pop()
                if time.monotonic() - since < _REST_SECONDS and connection.is_quiet():
                    return connection
                connection.close()
        return None

    def give(self, connection: Connection) -> None:
        """Keep a connection if it can be used again, else close it."""
        with self._lock:
            if connection.reusable and len(self._resting) < _MOST and self._owner == os.getpid():
                self._resting.append((time.monotonic(), connection))
                return
        connection.close()

    def close(self) -> None:
        """Close what rests."""
        with self._lock:
            for _, connection in self._resting:
                connection.close()
            self._resting.clear()
