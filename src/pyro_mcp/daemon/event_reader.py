"""The events that answer a long request, as a client gets them."""

import threading
from collections.abc import Callable, Iterator

from pyro_mcp.daemon.gone import DaemonGone
from pyro_mcp.daemon.http import Answer, Connection
from pyro_mcp.daemon.requests import broken_connections
from pyro_mcp.errors import DaemonFailed
from pyro_mcp.events import Event, OutputChunk, event_from_json
from pyro_mcp.guest.frames import FrameDecoder, Message, Output, Tag
from pyro_mcp.guest.violation import ProtocolViolation


class EventReader:
    """The events of one request, to be iterated over once. Closing it before the end cancels the request."""

    def __init__(self, connection: Connection, answer: Answer, release: Callable[[], None]) -> None:
        self._connection = connection
        self._answer = answer
        self._release = release
        self._lock = threading.Lock()
        self._left = False  # then the connection may be another request's already

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
            raise DaemonGone

    def cancel(self) -> None:
        """From another thread: make whoever iterates see a broken connection, and the daemon a client that left."""
        with self._lock:
            if not self._left:
                self._connection.shut_down()

    def close(self) -> None:
        """Leave. Not while another thread iterates."""
        with self._lock:
            self._left = True
        self._release()

    def _read(self) -> bytes:
        with broken_connections():
            return self._answer.read_some()


def _decoded(decoder: FrameDecoder, data: bytes) -> list[Output | Message]:
    try:
        return list(decoder.feed(data))
    except ProtocolViolation as error:
        raise DaemonFailed("daemon_protocol", "the daemon sent a stream that makes no sense") from error
