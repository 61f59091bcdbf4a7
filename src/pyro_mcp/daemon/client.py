"""A client's end of the local API: finds the daemon or starts it, asks, and iterates over events.

Standard library only, and little of it: the command line's start-up stands on this.
"""

import contextlib
import fcntl
import http.client
import json
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pyro_mcp import models
from pyro_mcp.daemon.place import DaemonPlace
from pyro_mcp.errors import Conflict, DaemonFailed, InvalidRequest, WireError, from_wire
from pyro_mcp.events import Event, OutputChunk, event_from_json
from pyro_mcp.guest.frames import FrameDecoder, Message, Output, Tag
from pyro_mcp.guest.violation import ProtocolViolation
from pyro_mcp.version import __version__

if TYPE_CHECKING:
    from pyro_mcp.config import Settings

T = TypeVar("T")
_START_SECONDS = 15.0
_POLL_SECONDS = 0.02
# What the daemon needs of the user's environment; the rest is not its business.
_DAEMON_ENVIRONMENT = (
    *("HOME", "PATH", "LANG", "TMPDIR", "USER"),
    *("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG", "COVERAGE_FILE"),
)
_READ_BYTES = 256 * 1024
_CONNECT_TRIES = 5


@dataclass(frozen=True)
class DaemonClient:
    """Asks the daemon of these settings, and starts it where there is none."""

    settings: "Settings"

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """One request with a JSON answer. Raises the `PyroError` that the daemon answers with."""
        with contextlib.closing(self._connection()) as connection:
            return _ask(connection, method, path, body)

    def stream(self, path: str, body: object) -> "EventReader":
        """One request answered with events."""
        connection = self._connection()
        try:
            with _broken_connections():
                response = _send(connection, "POST", path, body)
            _raise_for_status(response)
        except BaseException:
            connection.close()
            raise
        return EventReader(connection, response)

    def upload(self, path: str, parts: Iterable[bytes]) -> None:
        """Send a body part by part, as the parts come."""
        with contextlib.closing(self._connection()) as connection, _broken_connections():
            headers = {"Transfer-Encoding": "chunked", "Content-Type": "application/octet-stream"}
            with _answered_early():
                connection.request("POST", path, body=iter(parts), headers=headers, encode_chunked=True)
            response = connection.getresponse()
            _raise_for_status(response)
            response.read()

    def stop(self, wait_seconds: float = _START_SECONDS) -> bool:
        """End the daemon if one runs and has nothing to do; True if there was one. Raises `Conflict` if it is busy."""
        place = DaemonPlace(self.settings.home)
        try:
            connection = _over(place.connect())
        except OSError:
            return False
        with contextlib.closing(connection):
            _end(place, connection, wait_seconds)
        return True

    def _connection(self) -> http.client.HTTPConnection:
        """A connection to a daemon of our version and settings that has answered on it once."""
        place = DaemonPlace(self.settings.home)
        place.prepare()
        for _ in range(_CONNECT_TRIES):
            with contextlib.ExitStack() as stack:
                connection = stack.enter_context(contextlib.closing(_connect_or_start(place, self.settings)))
                try:
                    hello = _greet(connection)
                except _Gone:
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

    def _replace(self, place: DaemonPlace, connection: http.client.HTTPConnection, version: str) -> None:
        """Have a daemon of another version or settings end, so that ours can start."""
        try:
            _end(place, connection, _START_SECONDS)
        except Conflict as error:
            raise Conflict(
                "daemon_busy",
                f"a daemon of pyro {version} with other settings is at work in {self.settings.home}",
                "wait for what it does, or use another PYRO_HOME",
            ) from error


class EventReader:
    """The events of one request, to be iterated over once. Closing it before the end cancels the request."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._response = response
        self._socket = connection.sock

    def __iter__(self) -> Iterator[Event | OutputChunk]:
        """Events up to the end of the stream, which only the daemon's own last word may bring about."""
        decoder = FrameDecoder()
        while data := self._read():
            for item in _decoded(decoder, data):
                if isinstance(item, Output):
                    yield OutputChunk("stdout" if item.tag is Tag.STDOUT else "stderr", item.data)
                else:
                    yield event_from_json(item.content)
        if decoder.inside_frame:
            raise _Gone()

    def cancel(self) -> None:
        """From another thread: make whoever iterates see a broken connection, and the daemon a client that left."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._connection.close()

    def _read(self) -> bytes:
        with _broken_connections():
            return self._response.read1(_READ_BYTES)


def _decoded(decoder: FrameDecoder, data: bytes) -> list[Output | Message]:
    try:
        return list(decoder.feed(data))
    except ProtocolViolation as error:
        raise DaemonFailed("daemon_protocol", "the daemon sent a stream that makes no sense") from error


def _connect_or_start(place: DaemonPlace, settings: "Settings") -> http.client.HTTPConnection:
    """A connection to the daemon that runs, or to one that we start now; never two daemons for one place."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError, ConnectionError):
            return _over(place.connect())
        lock = _try_lock(place)
        if lock is None:
            # Another client is starting it, or an old one is ending: neither can be waited for but by looking again.
            time.sleep(_POLL_SECONDS)
            continue
        try:
            with place.listen() as listener:
                _launch(place, settings, listener.fileno(), lock)
                # While we hold the listener too: connecting cannot fail, whatever becomes of the daemon.
                return _over(place.connect())
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


def _end(place: DaemonPlace, connection: http.client.HTTPConnection, wait_seconds: float) -> None:
    """Have the daemon on this connection end, and wait until it has or another stands in its place.

    Raises `Conflict` if it is busy.
    """
    its_socket = place.socket_identity()
    with contextlib.suppress(_Gone):
        _ask(connection, "POST", "/v1/shutdown", None)
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


def _over(connected: socket.socket) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("pyro")
    connection.sock = connected
    return connection


def _greet(connection: http.client.HTTPConnection) -> Any:
    """Ask who answers; a daemon that hangs is given up (`TimeoutError`) instead of waited for."""
    connection.sock.settimeout(_START_SECONDS)
    hello = _ask(connection, "GET", "/v1/hello", None)
    connection.sock.settimeout(None)
    return hello


def _ask(connection: http.client.HTTPConnection, method: str, path: str, body: object) -> Any:
    with _broken_connections():
        response = _send(connection, method, path, body)
        _raise_for_status(response)
        return json.loads(response.read())


def _send(connection: http.client.HTTPConnection, method: str, path: str, body: object) -> http.client.HTTPResponse:
    data = None if body is None else json.dumps(body).encode()
    with _answered_early():
        connection.request(method, path, body=data, headers={"Content-Type": "application/json"})
    return connection.getresponse()


def _raise_for_status(response: http.client.HTTPResponse) -> None:
    if response.status == 200:
        return
    with _broken_connections():
        text = response.read()
    try:
        wire = models.decode(WireError, json.loads(text))
    except (ValueError, InvalidRequest):
        raise DaemonFailed("daemon_protocol", f"the daemon answered with HTTP status {response.status}") from None
    raise from_wire(wire)


def _answered_early() -> contextlib.suppress:
    """Around sending: a daemon that refuses a request closes the connection without reading the rest of its body.

    Its answer, which says why, can still be read; without one, reading it will tell that the daemon is gone.
    """
    return contextlib.suppress(BrokenPipeError, ConnectionResetError)


@contextlib.contextmanager
def _broken_connections() -> Iterator[None]:
    """Turn what the transport raises when the daemon goes away into our own error."""
    try:
        yield
    except (http.client.HTTPException, ConnectionError, ValueError) as error:
        raise _Gone from error


class _Gone(DaemonFailed):
    """The daemon ended while it was spoken to."""

    def __init__(self) -> None:
        super().__init__("daemon_gone", "pyro's daemon ended in the middle of the request", "run the command again")
