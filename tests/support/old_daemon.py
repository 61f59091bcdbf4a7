"""Something at the daemon's socket that is not a daemon of this version: an old one, or one that answers rubbish."""

import contextlib
import fcntl
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator

from pyro_mcp.config import Settings
from pyro_mcp.daemon.http import DAEMON
from pyro_mcp.daemon.place import DaemonPlace

Answer = Callable[[str, bytes], bytes | None]


def http(content: object, status: str = "200 OK", *, daemon: bytes = b"") -> bytes:
    """An HTTP answer with a JSON body, of that daemon."""
    body = json.dumps(content).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n".encode()
    return b"%b%b: %b\r\n\r\n%b" % (head, DAEMON, daemon, body)


def hello(settings: Settings, *, version: str, active: int = 0) -> bytes:
    """The answer of a daemon of another version."""
    return http({"version": version, "settings": settings.describe(), "pid": os.getpid(), "active": active})


class OldDaemon:
    """Holds lock and socket as a daemon does; `answer` gets path and body, and None from it ends the daemon."""

    def __init__(self, settings: Settings, answer: Answer) -> None:
        place = DaemonPlace(settings.home)
        place.prepare()
        self.asked: list[str] = []
        self._answer = answer
        self._lock = os.open(place.lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._listener = place.listen()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Be gone, as a killed daemon is: the socket's file stays."""
        if not self._ended.is_set():
            self._ended.set()
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            os.close(self._lock)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection.makefile("rb") as reader:
            while line := reader.readline():
                path = line.split()[1].decode()
                length = 0
                while (header := reader.readline()) not in (b"\r\n", b""):
                    if header.lower().startswith(b"content-length:"):
                        length = int(header.split(b":")[1])
                self.asked.append(path)
                answer = self._answer(path, reader.read(length))
                if answer is None:
                    self.end()
                    connection.sendall(http({}))
                    return
                connection.sendall(answer)
                if path != "/v1/hello" or not answer.startswith(b"HTTP/1.1 200"):
                    return


@contextlib.contextmanager
def old_daemon(settings: Settings, answer: Answer) -> Iterator[OldDaemon]:
    """Such a daemon for as long as the block lasts, unless it is ended before."""
    daemon = OldDaemon(settings, answer)
    try:
        yield daemon
    finally:
        daemon.end()
        daemon._thread.join(30)
