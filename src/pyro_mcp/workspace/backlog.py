"""What a guest has said and its reader has not taken yet."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from pyro_mcp import tasks
from pyro_mcp.errors import PyroError
from pyro_mcp.events import Event, OutputChunk

Emit = Callable[[Event | OutputChunk], Awaitable[None]]
_HELD_BYTES = 256 * 1024
# More than can be on its way when a command is ended: a stream's window, and the pipe in the guest.
_LAST_BYTES = 8 << 20
# What an event costs besides its data. A guest may write single bytes: neighbours among those are put together.
_EVENT_BYTES = 256
_SMALL_BYTES = 4 * 1024
_MERGED_BYTES = 64 * 1024


class Backlog:
    """Events in order, bounded: a reader that is slow holds the guest back, and in the end the command in it.

    The reader may be slower than the machine lives. `lift` makes room for the last that a machine has to say, so that
    it can go while its output stays.
    """

    def __init__(self) -> None:
        self._events: deque[Event | OutputChunk | _Small] = deque()
        self._held = 0
        self._limit = _HELD_BYTES
        self._closed = False
        self._changed = asyncio.Condition()

    async def put(self, event: Event | OutputChunk) -> None:
        """Add an event; waits while there is no room. After the close it goes nowhere."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._held < self._limit or self._closed)
            if self._closed:
                return
            self._keep(event)
            self._changed.notify_all()

    async def lift(self) -> None:
        """Take in up to 8 MiB from now on."""
        await self._change(limit=_LAST_BYTES)

    async def close(self) -> None:
        """Nothing more comes."""
        await self._change(closed=True)

    async def drop(self) -> None:
        """Forget what is there and what comes: nobody will take it."""
        self._events.clear()
        await self.close()

    async def emit_all(self, emit: Emit) -> None:
        """Hand events on until the backlog is closed and empty."""
        while (event := await self._take()) is not None:
            await emit(event)

    async def _take(self) -> Event | OutputChunk | None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._events or self._closed)
            if not self._events:
                return None
            held = self._events.popleft()
            event = OutputChunk(held.stream, bytes(held.data)) if isinstance(held, _Small) else held
            self._held -= _size(event)
            self._changed.notify_all()
            return event

    def _keep(self, event: Event | OutputChunk) -> None:
        if not isinstance(event, OutputChunk) or len(event.data) >= _SMALL_BYTES:
            self._events.append(event)
            self._held += _size(event)
            return
        last = self._events[-1] if self._events else None
        if not isinstance(last, _Small) or last.stream != event.stream or len(last.data) >= _MERGED_BYTES:
            last = _Small(event.stream)
            self._events.append(last)
            self._held += _EVENT_BYTES
        last.data += event.data
        self._held += len(event.data)

    async def _change(self, *, limit: int | None = None, closed: bool = False) -> None:
        async with self._changed:
            self._limit = limit or self._limit
            self._closed = self._closed or closed
            self._changed.notify_all()


@asynccontextmanager
async def emitting(emit: Emit) -> AsyncIterator[Backlog]:
    """A backlog whose events are emitted while the block runs, and the rest of them before it is left.

    An error that ends the block comes after the output that came before it; only being cancelled drops what is left.
    """
    backlog = Backlog()
    handing_on = asyncio.create_task(_hand_on(backlog, emit))
    try:
        try:
            yield backlog
        except PyroError:
            await backlog.close()
            await asyncio.wait((handing_on,))
            raise
        await backlog.close()
        await handing_on
    finally:
        await tasks.end(handing_on)


async def _hand_on(backlog: Backlog, emit: Emit) -> None:
    try:
        await backlog.emit_all(emit)
    finally:
        # Nobody takes events any more, so nobody may wait for room.
        await backlog.close()


@dataclass
class _Small:
    """Small chunks of one stream, one after the other."""

    stream: str
    data: bytearray = field(default_factory=bytearray)


def _size(event: Event | OutputChunk) -> int:
    return _EVENT_BYTES + (len(event.data) if isinstance(event, OutputChunk) else 0)
