"""A client's end of the local API: finds the daemon or starts it, and asks.

Standard library only, and little of it: the command line's start-up stands on this.
"""

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pyro_mcp import phases
from pyro_mcp.daemon.connections import Connections
from pyro_mcp.daemon.gone import DaemonGone
from pyro_mcp.daemon.http import Connection, whose
from pyro_mcp.daemon.place import DaemonPlace
from pyro_mcp.daemon.requests import ask, begin, nothing, upload
from pyro_mcp.errors import Conflict, DaemonFailed
from pyro_mcp.version import __version__

if TYPE_CHECKING:
    from pyro_mcp.config import Settings
    from pyro_mcp.daemon.abort import Abort
    from pyro_mcp.daemon.event_reader import EventReader

_START_SECONDS = 15.0
# A host that is short of everything takes long to start a daemon; one that hangs is rarer than that.
_GREETING_SECONDS = 60.0
_POLL_SECONDS = 0.02
# What the daemon needs of the user's environment; the rest is not its business.
_DAEMON_ENVIRONMENT = (
    *("HOME", "PATH", "LANG", "TMPDIR", "USER"),
    *("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG", "COVERAGE_FILE"),
)
_CONNECT_TRIES = 5


class DaemonClient:
    """Asks the daemon of these settings, and starts it where there is none. May be shared by threads."""

    def __init__(
        self, settings: "Settings", connections: Connections | None = None, abort: "Abort | None" = None
    ) -> None:
        self.settings = settings
        self._connections = connections or Connections()
        self.abort = abort

    def abortable(self, abort: "Abort") -> "DaemonClient":
        """The same client for one call that may be given up."""
        return DaemonClient(self.settings, self._connections, abort)

    def ask(self, method: str, path: str, body: object = None, meanwhile: Callable[[], object] = nothing) -> Any:
        """One request with a JSON answer. Raises the `PyroError` that the daemon answers with.

        `meanwhile` is called while the daemon works, perhaps more than once.
        A GET changes nothing. So it is sent to whatever daemon there is, and asked once more, of one of our version and
        settings, where that was another or ended before it had answered.
        """
        if method == "GET":
            with contextlib.suppress(DaemonGone, TimeoutError):
                return self._ask_whoever_is_there(path, meanwhile)
        with self._connection(self._greeted) as connection:
            return ask(connection, method, path, body, meanwhile)

    def _ask_whoever_is_there(self, path: str, meanwhile: Callable[[], object]) -> Any:
        """A GET without a greeting: a second way to the daemon and back would take as long as many an answer."""
        with self._connection(self._connected) as connection:
            connection.limit(_GREETING_SECONDS)
            try:
                return ask(connection, "GET", path, None, meanwhile)
            finally:
                connection.limit(None)  # also where the answer is an error: the connection is used again

    def stream(self, path: str, body: object) -> "EventReader":
        """One request answered with events."""
        with contextlib.ExitStack() as stack:
            phases.ended("client")
            connection = stack.enter_context(self._connection(self._greeted))
            phases.ended("daemon")
            answer = begin(connection, "POST", path, body)
            # Late, because most requests are answered with one object, and this one is under way meanwhile.
            from pyro_mcp.daemon.event_reader import EventReader  # noqa: PLC0415

            return EventReader(connection, answer, stack.pop_all().close)

    def upload(self, path: str, parts: Iterable[bytes]) -> None:
        """Send a body part by part, as the parts come."""
        with self._connection(self._greeted) as connection:
            upload(connection, path, parts)

    def close(self) -> None:
        """Close the connections that rest between requests; the next request opens a new one."""
        self._connections.close()

    def stop(self, wait_seconds: float = _START_SECONDS) -> bool:
        """End the daemon if one runs and has nothing to do; True if there was one. Raises `Conflict` if it is busy."""
        place = DaemonPlace(self.settings.home)
        try:
            connection = Connection(place.connect())
        except OSError:
            return False
        with contextlib.closing(connection):
            _end(place, connection, wait_seconds)
        return True

    @contextlib.contextmanager
    def _connection(self, connect: Callable[[], Connection]) -> Iterator[Connection]:
        """A connection for one request: one that rests, to a daemon of our version and settings, or a new one."""
        connection = self._connections.take() or connect()
        try:
            if self.abort is not None:
                self.abort.add(connection)
            yield connection
        finally:
            if self.abort is not None:
                self.abort.remove(connection)
            self._connections.give(connection)

    def _connected(self) -> Connection:
        """A new connection to a daemon whose answers count only if it is of our version and settings."""
        place = DaemonPlace(self.settings.home)
        place.prepare()
        return _connect_or_start(place, self.settings, whose(__version__, self.settings.describe()))

    def _greeted(self) -> Connection:
        """A new connection to a daemon of our version and settings that has answered on it once."""
        place = DaemonPlace(self.settings.home)
        place.prepare()
        for _ in range(_CONNECT_TRIES):
            with contextlib.ExitStack() as stack:
                connection = stack.enter_context(contextlib.closing(_connect_or_start(place, self.settings)))
                try:
                    hello = _greet(connection)
                except DaemonGone:
                    continue  # it was ending as we came; the next one is ours to start
                except TimeoutError:
                    break
                # Another version may say other things about itself, too.
                version, settings = (
                    (hello.get("version"), hello.get("settings")) if isinstance(hello, dict) else ("", "")
                )
                if (version, settings) == (__version__, self.settings.describe()):
                    stack.pop_all()
                    return connection
                self._replace(place, connection, str(version)[:40])
        raise DaemonFailed(
            "daemon_failed", "pyro's daemon does not stay up, or does not answer", f"see {place.log_path}"
        )

    def _replace(self, place: DaemonPlace, connection: Connection, version: str) -> None:
        """Have a daemon of another version or settings end, so that ours can start."""
        try:
            _end(place, connection, _START_SECONDS)
        except Conflict as error:
            raise Conflict(
                "daemon_busy",
                f"a daemon of pyro {version} with other settings is at work in {self.settings.home}",
                "wait for what it does, or use another PYRO_HOME",
            ) from error


def _connect_or_start(place: DaemonPlace, settings: "Settings", expected: bytes | None = None) -> Connection:
    """A connection to the daemon that runs, or to one that we start now; never two daemons for one place."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError, ConnectionError):
            return Connection(place.connect(), expected)
        lock = _try_lock(place)
        if lock is None:
            # Another client is starting it, or an old one is ending: neither can be waited for but by looking again.
            time.sleep(_POLL_SECONDS)
            continue
        try:
            with place.listen() as listener:
                _launch(place, settings, listener.fileno(), lock)
                # While we hold the listener too: connecting cannot fail, whatever becomes of the daemon.
                return Connection(place.connect(), expected)
        finally:
            os.close(lock)
    raise DaemonFailed("daemon_hung", "a daemon holds its lock but does not answer", f"see {place.log_path}")


def _try_lock(place: DaemonPlace) -> int | None:
    """The lock that a daemon holds for its life, or None while somebody holds it."""
    fd = place.open_lock()
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _end(place: DaemonPlace, connection: Connection, wait_seconds: float) -> None:
    """Have the daemon on this connection end, and wait until it has or another stands in its place.

    Raises `Conflict` if it is busy.
    """
    its_socket = place.socket_identity()
    with contextlib.suppress(DaemonGone):
        ask(connection, "POST", "/v1/shutdown", None)
    deadline = time.monotonic() + wait_seconds
    while place.socket_identity() in (its_socket, None):
        lock = _try_lock(place)
        if lock is not None:
            os.close(lock)
            return
        if time.monotonic() > deadline:
            raise DaemonFailed("daemon_hung", "the daemon was told to end but does not", f"see {place.log_path}")
        time.sleep(_POLL_SECONDS)


def _launch(place: DaemonPlace, settings: "Settings", listener_fd: int, lock_fd: int) -> None:
    """Start a daemon on a socket that listens already; it need not be ready for us to send a request."""
    from pyro_mcp.process import detach  # noqa: PLC0415  (starting a daemon is rare, and importing this is slow)

    keep = {name: os.environ[name] for name in _DAEMON_ENVIRONMENT if name in os.environ}
    log = place.open_log()
    try:
        argv = [sys.executable, "-P", "-m", "pyro_mcp.daemon.launch", str(listener_fd), str(lock_fd)]
        code = detach(argv, env=keep | settings.to_environment(), pass_fds=(listener_fd, lock_fd), log=log)
    finally:
        os.close(log)
    if code != 0:
        raise DaemonFailed("daemon_failed", f"pyro's daemon did not start (exit code {code})", f"see {place.log_path}")


def _greet(connection: Connection) -> Any:
    """Ask who answers; a daemon that hangs is given up (`TimeoutError`) instead of waited for."""
    connection.limit(_GREETING_SECONDS)
    hello = ask(connection, "GET", "/v1/hello", None)
    connection.limit(None)
    return hello
