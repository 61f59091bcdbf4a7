"""One tool call under way: what it may use, and how it tells how far it is."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass, field

from pyro_mcp.mcp.backend import Backend
from pyro_mcp.mcp.failure import without_host_paths
from pyro_mcp.mcp.folders import AllowedFolders
from pyro_mcp.mcp.hints import for_models
from pyro_mcp.models import NOTICE, Progress

# Takes the seconds since the call began (which grow, as the protocol demands) and what is going on.
Send = Callable[[float, str], Awaitable[None]]

_BEAT_SECONDS = 5.0
_LEAST_SECONDS = 0.5  # between two notifications


@dataclass(frozen=True)
class Limits:
    """What the user allowed when starting the server; nothing that a model says widens it."""

    folders: AllowedFolders
    network_policy: str = "off"


@dataclass(frozen=True)
class Call:
    """A tool call. `send` is None where the chat host asked for no progress; `given` are the arguments as JSON.

    `tools` are the names of those that its model has.
    """

    pyro: Backend
    limits: Limits
    send: Send | None = None
    given: str = ""
    tools: Collection[str] = ()

    @contextlib.asynccontextmanager
    async def telling(self, at_first: str) -> "AsyncIterator[Teller]":
        """Tell the chat host in this block that the call is alive, every few seconds and whenever there is news."""
        teller = Teller(at_first, self.given, self.tools)
        if self.send is None:
            yield teller
            return
        task = asyncio.create_task(teller.run(self.send))
        try:
            yield teller
        finally:
            task.cancel()
            await asyncio.wait((task,))


@dataclass
class Teller:
    """What is going on now. May be told so from any thread.

    What the daemon said of the work that its user should know is kept in `notices`, for the reply's `note`.
    """

    words: str
    given: str
    tools: Collection[str]
    notices: list[str] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def say(self, words: str) -> None:
        """What is going on from now on."""
        self._loop.call_soon_threadsafe(self._take, words)

    def progress(self, step: Progress) -> None:
        """The same for a step of the daemon's."""
        if step.phase == NOTICE:
            self.notices.append(without_host_paths(for_models(step.detail, self.tools), self.given))
            return
        amount = "" if step.done is None else f" {step.done}"
        if step.done is not None and step.total is not None:
            amount += f" of {step.total}"
        self.say(f"{step.operation}: {step.phase}{amount}{' ' + step.unit if amount and step.unit else ''}")

    @property
    def note(self) -> str | None:
        """The notices as one, if there are any."""
        return "; ".join(self.notices) or None

    def _take(self, words: str) -> None:
        if words != self.words:
            self.words = words
            self._news.set()

    async def run(self, send: Send) -> None:
        """Send until cancelled."""
        began = time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BEAT_SECONDS):
                    await self._news.wait()
            self._news.clear()
            elapsed = time.monotonic() - began
            await send(round(elapsed, 1), f"{self.words} ({elapsed:.0f} s)")
            await asyncio.sleep(_LEAST_SECONDS)
