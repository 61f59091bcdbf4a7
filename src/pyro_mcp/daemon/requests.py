"""One request on a connection to the daemon, and its answer as data or as the error that it tells of."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pyro_mcp import models
from pyro_mcp.daemon.gone import DaemonGone
from pyro_mcp.daemon.http import BadAnswer
from pyro_mcp.errors import DaemonFailed, InvalidRequest, WireError, from_wire

if TYPE_CHECKING:
    from pyro_mcp.daemon.http import Answer, Connection


def nothing() -> None:
    """Is done meanwhile unless somebody has better to do."""


def ask(
    connection: "Connection", method: str, path: str, body: object, meanwhile: Callable[[], object] = nothing
) -> Any:
    """What the daemon answers in JSON; `meanwhile` is called while it works.

    Raises the `PyroError` that it answers with, and `DaemonGone`.
    """
    answer = begin(connection, method, path, body, meanwhile)
    with broken_connections():
        return _from_json(answer.read())


def begin(
    connection: "Connection", method: str, path: str, body: object, meanwhile: Callable[[], object] = nothing
) -> "Answer":
    """Send a request; the answer's body is still to be read. Raises as `ask` does."""
    with broken_connections():
        connection.send(method, path, None if body is None else _as_json(body))
    meanwhile()
    import json  # noqa: F401, PLC0415  (what reads the answer: while the daemon works, it takes no time)

    with broken_connections():
        answer = connection.answer()
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
        wire = models.decode(WireError, _from_json(text))
    except (ValueError, InvalidRequest):
        raise DaemonFailed("daemon_protocol", f"the daemon answered with HTTP status {answer.status}") from None
    raise from_wire(wire)


def _as_json(body: object) -> bytes:
    import json  # noqa: PLC0415  (late, see `begin`)

    return json.dumps(body).encode()


def _from_json(text: bytes) -> Any:
    import json  # noqa: PLC0415  (late, see `begin`)

    return json.loads(text)
