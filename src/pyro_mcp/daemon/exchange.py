"""Requests into dataclasses, dataclasses into answers, for every route alike."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from pyro_mcp import models, tasks
from pyro_mcp.daemon.http import JSON
from pyro_mcp.daemon.streaming import client_gone
from pyro_mcp.errors import Conflict, GuestFailed, InvalidRequest, NotFound, PyroError

T = TypeVar("T")
MAX_BODY = 4 << 20  # bytes of a JSON request
LARGE_BODY = 64 << 20  # of one that brings a file or a patch of 8 MiB, of which JSON may make six times as much
# From here on JSON is read and written in a thread: the event loop serves others meanwhile.
_LARGE = 256 << 10
_STDIN_PART = 1 << 20  # bytes of input in one frame to the guest
_CLIENT_LEFT = 499  # as nginx calls it in its log; nobody reads this answer


class TakesInput(Protocol):
    """A command that is given input."""

    async def write_stdin(self, data: bytes) -> None:
        """Some input; waits while the command does not read."""

    async def close_stdin(self) -> None:
        """There is no more."""


async def decoded(kind: type[T], request: Request, most: int = MAX_BODY) -> T:
    """The request's body as a dataclass. Raises `InvalidRequest`."""
    data = await _body(request, most)
    if len(data) > _LARGE:
        return await asyncio.to_thread(_decoded, kind, data)
    return _decoded(kind, data)


def answer(value: object) -> Response:
    """A dataclass as the answer."""
    return JSONResponse(models.encode(value))


class Encoded:
    """Lists of dataclasses in JSON. What was in the last list, the very same object, is not encoded again."""

    def __init__(self) -> None:
        # By identity, which nothing else gets while the object is held in here.
        self._last: dict[int, tuple[object, bytes]] = {}

    def answer(self, name: str, values: Sequence[object]) -> Response:
        """An object with one list in it as the answer. May be called by threads."""
        last = self._last
        self._last = now = {id(value): last.get(id(value)) or (value, bytes(answer(value).body)) for value in values}
        return Response(b'{"%b":[%b]}' % (name.encode(), b",".join(text for _, text in now.values())), media_type=JSON)


def named(request: Request, part: str) -> str:
    """What a part of the path names. Clients quote it twice, so that no name is anything but a part of a path."""
    return unquote(str(request.path_params[part]))


async def large_answer(value: object) -> Response:
    """A dataclass that may hold a file or a long list."""
    return await asyncio.to_thread(answer, value)


async def while_there(request: Request, work: Coroutine[Any, Any, Response]) -> Response:
    """Do work that only its client wants: it is cancelled when the client goes away. The body was read before."""
    working = asyncio.create_task(work)
    watching = asyncio.create_task(client_gone(request.receive))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else Response(status_code=_CLIENT_LEFT)
    finally:
        await tasks.end(working)
        await tasks.end(watching)


async def pass_stdin(request: Request, command: TakesInput) -> Response:
    """Give a command the body as it comes; the body's end is the input's end, and so is a client that leaves."""
    # Where the guest goes away under the input, the command's own events tell why.
    with contextlib.suppress(ClientDisconnect, GuestFailed):
        async for data in request.stream():
            for start in range(0, len(data), _STDIN_PART):
                await command.write_stdin(data[start : start + _STDIN_PART])
    with contextlib.suppress(GuestFailed):
        await command.close_stdin()
    return JSONResponse({})


async def pass_signal(request: Request, signal: Callable[[int], Awaitable[None]]) -> Response:
    """Give a command the signal that the body names."""
    wanted = await decoded(models.SignalRequest, request)
    if not 1 <= wanted.signal <= 64:
        raise InvalidRequest("bad_signal", f"{wanted.signal} is no signal number", "use one from 1 to 64")
    await signal(wanted.signal)
    return JSONResponse({})


async def error_response(_request: Request, error: Exception) -> Response:
    """An error as it travels to the client."""
    assert isinstance(error, PyroError)  # noqa: S101  (the handler is registered for nothing else)
    # Closed, because the client may still be sending a body that nobody wants any more.
    headers = {"connection": "close"}
    return JSONResponse(models.encode(error.to_wire()), status_code=_status(error), headers=headers)


def _decoded(kind: type[T], data: bytes | bytearray) -> T:
    try:
        content = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        raise InvalidRequest("bad_request", "the request is not JSON") from None
    return models.decode(kind, content)


async def _body(request: Request, most: int) -> bytearray:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise InvalidRequest("bad_request", f"the request is larger than {most} bytes")
    return body


def _status(error: PyroError) -> int:
    match error:
        case NotFound():
            return 404
        case Conflict():
            return 409
        case _:
            return 400 if error.exit_code == 1 else 500
