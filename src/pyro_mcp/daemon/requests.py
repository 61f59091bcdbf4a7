"""One request on a connection to the daemon, and its answer as data or as the error that it tells of."""

import contextlib
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pyro_mcp import models
from pyro_mcp.daemon.gone import DaemonGone
from pyro_mcp.daemon.http import BadAnswer
from pyro_mcp.errors import DaemonFailed, InvalidRequest, WireError, from_wire

if TYPE_CHECKING:
    from pyro_mcp.daemon.http import Answer, Connection


def ask(connection: "Connection", method: str, path: str, body: object) -> Any:
    """What the daemon answers in JSON. Raises the `PyroError` that it answers with, and `DaemonGone`."""
    answer = begin(connection, method, path, body)
    with broken_connections():
        return json.loads(answer.read())


def begin(connection: "Connection", method: str, path: str, body: object) -> "Answer":
    """Send a request; the answer's body is still to be read. Raises as `ask` does."""
    with broken_connections():
        answer = connection.request(method, path, None if body is None else json.dumps(body).encode())
    _raise_for_status(answer)
    return answer


def upload(connection: "Connection", path: str, parts: Iterable[bytes]) -> None:
    """Send a body part by part, as the parts come. Raises as `ask` does."""
    with broken_connections():
        answer = connection.upload(path, parts)
        _raise_for_status(answer)
        answer.read()


@contextlib.contextmanager
def broken_connections() -> Iterator[None]:
    """Turn what the transport raises when the daemon goes away into our own error."""
    try:
        yield
    except (BadAnswer, ConnectionError, ValueError) as error:
        raise DaemonGone from error


def _raise_for_status(answer: "Answer") -> None:
    if answer.status == 200:
        return
    with broken_connections():
        text = answer.read()
    try:
        wire = models.decode(WireError, json.loads(text))
    except (ValueError, InvalidRequest):
        raise DaemonFailed("daemon_protocol", f"the daemon answered with HTTP status {answer.status}") from None
    raise from_wire(wire)
