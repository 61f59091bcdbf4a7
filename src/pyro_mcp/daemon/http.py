"""HTTP/1.1 as a client of the local API speaks it (RFC 9112): one request after another on one Unix socket.

The standard library's client takes longer to import than a whole command line may to start, because of TLS, proxies
and mail headers, none of which can occur here.
"""

import contextlib
import socket
from collections.abc import Iterable

_MAX_HEAD = 64 * 1024  # bytes of an answer's status line and headers
_MAX_LINE = 1024  # bytes of a chunk's size line
_READ_BYTES = 256 * 1024
JSON = "application/json"
DAEMON = b"pyro-daemon"  # the header that tells of each answer which daemon gave it, as `whose` has it


def whose(version: str, settings: str) -> bytes:
    """A daemon of this version and with these settings, as the value of a header."""
    return f"{version} {settings}".encode("ascii", "backslashreplace")


class BadAnswer(Exception):
    """What came is not HTTP, or not all of it came."""


class Connection:
    """A connection to the daemon. It closes itself when nobody holds it any more.

    Where `daemon` says who must answer (see `whose`), an answer of another is a `BadAnswer`.
    """

    def __init__(self, connected: socket.socket, daemon: bytes | None = None) -> None:
        self._socket = connected
        self._daemon = daemon
        self._buffer = bytearray()
        self.reusable = False  # whether the last answer was read to its end and the server keeps the connection

    def __del__(self) -> None:
        self.close()

    def limit(self, seconds: float | None) -> None:
        """From now on no step may take longer than that (`TimeoutError`); None: as long as it takes."""
        self._socket.settimeout(seconds)

    def send(self, method: str, path: str, body: bytes | None) -> None:
        """Send a request with a JSON body. Raises `OSError`."""
        length = "" if body is None else f"Content-Type: {JSON}\r\nContent-Length: {len(body)}\r\n"
        head = f"{method} {path} HTTP/1.1\r\nHost: pyro\r\n{length}\r\n".encode("ascii")
        self.reusable = False
        with _answered_early():
            self._socket.sendall(head + (body or b""))

    def upload(self, path: str, parts: Iterable[bytes]) -> "Answer":
        """Send a body part by part, as the parts come, and return the answer. Raises `BadAnswer` or `OSError`."""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: pyro\r\nContent-Type: application/octet-stream\r\n"
            "Transfer-Encoding: chunked\r\n\r\n"
        )
        self.reusable = False
        with _answered_early():
            self._socket.sendall(head.encode("ascii"))
            for part in parts:
                if part:  # an empty chunk would be the end
                    self._socket.sendall(b"%x\r\n%b\r\n" % (len(part), part))
            self._socket.sendall(b"0\r\n\r\n")
        return self.answer()

    def is_quiet(self) -> bool:
        """Whether the other end is still there and has said nothing on its own."""
        try:
            self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def shut_down(self) -> None:
        """From any thread: break the connection; whoever reads from it or writes to it is told."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()

    def read_some(self, most: int) -> bytes:
        """Some of what has come, at least one byte."""
        if not self._buffer:
            self._receive()
        taken = bytes(memoryview(self._buffer)[:most])
        del self._buffer[: len(taken)]
        return taken

    def read_line(self, most: int = _MAX_LINE) -> bytes:
        """A line without its end."""
        return self._until(b"\r\n", most)

    def answer(self) -> "Answer":
        """The answer to what was sent, whose body is still to be read. Raises `BadAnswer` or `OSError`."""
        lines = self._until(b"\r\n\r\n", _MAX_HEAD).split(b"\r\n")
        version, _, rest = lines[0].partition(b" ")
        status = rest[:3]
        if version != b"HTTP/1.1" or not status.isdigit() or len(status) < 3:
            raise BadAnswer("no status line")
        headers: dict[bytes, bytes] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(b":")
            if not colon:
                raise BadAnswer("a header without a name")
            headers[name.strip().lower()] = value.strip()
        if self._daemon not in (None, headers.get(DAEMON)):
            raise BadAnswer("another daemon answers")
        return Answer(self, int(status), headers)

    def _until(self, end: bytes, most: int) -> bytes:
        searched = 0
        while (at := self._buffer.find(end, searched)) < 0:
            if len(self._buffer) > most:
                raise BadAnswer("a line that does not end")
            searched = max(0, len(self._buffer) - len(end))
            self._receive()
        taken = bytes(memoryview(self._buffer)[:at])
        del self._buffer[: at + len(end)]
        return taken

    def _receive(self) -> None:
        data = self._socket.recv(_READ_BYTES)
        if not data:
            raise BadAnswer("the connection ended")
        self._buffer += data


class Answer:
    """The answer to one request: its status, and its body, to be read once."""

    def __init__(self, connection: Connection, status: int, headers: dict[bytes, bytes]) -> None:
        self.status = status
        self._connection = connection
        self._keeps = headers.get(b"connection", b"").lower() != b"close"
        self._chunked = headers.get(b"transfer-encoding", b"").lower() == b"chunked"
        self._left = 0 if self._chunked else _number(headers.get(b"content-length", b""), 10)
        self._ended = False

    def read(self) -> bytes:
        """The rest of the body. Raises `BadAnswer` or `OSError`."""
        return b"".join(iter(self.read_some, b""))

    def read_some(self) -> bytes:
        """Some of the body as it comes, empty at its end. Raises `BadAnswer` or `OSError`."""
        if self._left == 0 and not self._ended:
            self._begin_chunk()
        if self._ended:
            return b""
        data = self._connection.read_some(self._left)
        self._left -= len(data)
        if self._left == 0 and self._chunked:
            self._expect_empty_line()
        return data

    def _begin_chunk(self) -> None:
        """Find the next chunk, or the end of the body."""
        if self._chunked:
            self._left = _number(self._connection.read_line().partition(b";")[0], 16)
            if self._left == 0:
                self._expect_empty_line()  # trailers do not occur
        if self._left == 0:
            self._ended = True
            self._connection.reusable = self._keeps

    def _expect_empty_line(self) -> None:
        if self._connection.read_line():
            raise BadAnswer("a chunk that does not end where it should")


def _number(text: bytes, base: int) -> int:
    digits = b"0123456789abcdef"[:base]
    if not 0 < len(text) <= 15 or text.lower().strip(digits):
        raise BadAnswer("no number where one belongs")
    return int(text, base)


def _answered_early() -> contextlib.suppress:
    """Around sending: a daemon that refuses a request closes the connection without reading the rest of its body.

    Its answer, which says why, can still be read; without one, reading it will tell that the daemon is gone.
    """
    return contextlib.suppress(BrokenPipeError, ConnectionResetError)
