"""Who is connected: a chat host's server has one request open for as long as it lives, and gets no answer to it.

    POST /v1/chats      {"version": ..., "settings": ..., "pool": 1}; ends with the client, or the daemon

It is no request under way: the daemon may end meanwhile.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from pyro_mcp import tasks
from pyro_mcp.config import MOST_READY, Settings
from pyro_mcp.daemon.exchange import decoded
from pyro_mcp.daemon.streaming import MEDIA_TYPE, client_gone
from pyro_mcp.errors import Conflict, InvalidRequest
from pyro_mcp.models import ChatHost
from pyro_mcp.version import __version__

PATH = "/v1/chats"


class Chats:
    """The chat hosts that are connected; `want` is told how many machines to have ready, and whether one has come."""

    def __init__(self, want: Callable[[int, bool], None]) -> None:
        self._want = want
        self._pools: list[int] = []
        self.over = asyncio.Event()

    @contextmanager
    def connected(self, pool: int) -> Iterator[None]:
        """One more for as long as the block runs."""
        self._pools.append(pool)
        self._want(max(self._pools), True)
        try:
            yield
        finally:
            self._pools.remove(pool)
            self._want(max(self._pools, default=0), False)

    def end(self) -> None:
        """Answer them all: the daemon ends."""
        self.over.set()


@dataclass(frozen=True)
class ChatRoutes:
    """The route."""

    chats: Chats
    settings: Settings

    def routes(self) -> list[Route]:
        """For the application."""
        return [Route(PATH, self.connect, methods=["POST"])]

    async def connect(self, request: Request) -> "_Silence":
        """Refuses one of another version or other settings, for which this daemon would have to go."""
        host = await decoded(ChatHost, request)
        if not 0 <= host.pool <= MOST_READY:
            raise InvalidRequest("bad_request", f"{host.pool} machines are not kept ready")
        if (host.version, host.settings) != (__version__, self.settings.describe()):
            raise Conflict("other_daemon", "this daemon is of another version or has other settings")
        return _Silence(self.chats, host.pool)


@dataclass(frozen=True)
class _Silence:
    """An answer without content, which ends when the chat host or the daemon does."""

    chats: Chats
    pool: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", MEDIA_TYPE)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        ends = [asyncio.create_task(client_gone(receive)), asyncio.create_task(self._over())]
        with self.chats.connected(self.pool):
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for end in ends:
                    await tasks.end(end)
        await send({"type": "http.response.body", "body": b""})

    async def _over(self) -> None:
        await self.chats.over.wait()
