"""A response that streams events for as long as somebody reads them."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from starlette.types import Receive, Scope, Send

from pyro_mcp import tasks
from pyro_mcp.errors import InternalError, PyroError
from pyro_mcp.events import Event, OutputChunk, error_to_json, event_to_json
from pyro_mcp.guest.frames import Tag, frame, message_frame

log = logging.getLogger(__name__)
MEDIA_TYPE = b"application/vnd.pyro.frames"
Emit = Callable[[Event | OutputChunk], Awaitable[None]]


class EventStream:
    """An ASGI response: runs `produce`, sends what it emits, and cancels it when the client goes away.

    Sending waits for the client to read, and so in the end does the command in the guest; nothing is buffered here.
    """

    def __init__(self, produce: Callable[[Emit], Awaitable[None]]) -> None:
        self._produce = produce

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", MEDIA_TYPE)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        producing = asyncio.create_task(self._run(send))
        watching = asyncio.create_task(client_gone(receive))
        try:
            await asyncio.wait((producing, watching), return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Cleaning up after a machine is bounded, so this is too.
            await tasks.end(producing)
            await tasks.end(watching)
        with contextlib.suppress(OSError):
            await send({"type": "http.response.body", "body": b""})

    async def _run(self, send: Send) -> None:
        async def emit(event: Event | OutputChunk) -> None:
            await send({"type": "http.response.body", "body": _encoded(event), "more_body": True})

        try:
            await self._produce(emit)
        except PyroError as error:
            body = message_frame(error_to_json(error))
            await send({"type": "http.response.body", "body": body, "more_body": True})
        except Exception:
            log.exception("a request failed")
            failure = InternalError("internal", "pyro's daemon failed at this request", "see daemon.log in PYRO_HOME")
            body = message_frame(error_to_json(failure))
            await send({"type": "http.response.body", "body": body, "more_body": True})


def _encoded(event: Event | OutputChunk) -> bytes:
    if isinstance(event, OutputChunk):
        return frame(Tag.STDOUT if event.stream == "stdout" else Tag.STDERR, event.data)
    return message_frame(event_to_json(event))


async def client_gone(receive: Receive) -> None:
    """Wait until the client goes away; for requests whose body was read."""
    while (await receive())["type"] != "http.disconnect":
        pass
