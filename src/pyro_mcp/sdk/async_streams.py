"""Commands under way, followed from an event loop."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from pyro_mcp.events import Event, OutputChunk
from pyro_mcp.sdk.command_stream import CommandStream
from pyro_mcp.sdk.exec_stream import ExecStream
from pyro_mcp.sdk.run_stream import RunStream
from pyro_mcp.sdk.threads import Worker, in_a_thread

S = TypeVar("S", bound=CommandStream)


class AsyncCommandStream(Generic[S]):
    """A command under way: iterate over it with `async for`, and meanwhile give it input and signals.

    Leaving it (`close`, or the end of an `async with` block) before the end ends the command, and so does cancelling
    whoever waits for the next event.
    """

    def __init__(self, stream: S) -> None:
        self._stream = stream
        self._events = iter(stream)
        self._worker = Worker()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event | OutputChunk:
        """The next event; the last one tells of the end. Output that is not taken holds the command back.

        Raises `PyroError`.
        """
        try:
            event = await self._worker.do(lambda: next(self._events, None))
        except asyncio.CancelledError:
            self._stream.cancel()
            raise
        if event is None:
            raise StopAsyncIteration
        return event

    async def signal(self, number: int) -> None:
        """Send a signal (1 to 64) to the command's process group. Raises `NotFound` when it has ended."""
        await in_a_thread(self._stream._daemon, lambda daemon: self._stream._over(daemon).signal(number))

    async def send_input(self, parts: Iterable[bytes] | AsyncIterable[bytes]) -> None:
        """Give the command its input, part by part as `parts` yields them, and end it; returns when all is taken."""
        if isinstance(parts, AsyncIterable):
            parts = _fetched(aiter(parts), asyncio.get_running_loop())
        given = parts
        await in_a_thread(self._stream._daemon, lambda daemon: self._stream._over(daemon).send_input(given))

    def cancel(self) -> None:
        """End the command; whoever iterates over the stream gets `DaemonFailed`."""
        self._stream.cancel()

    async def close(self) -> None:
        """End the command if it has not ended."""
        self._stream.cancel()
        # Behind the event that is being waited for, which ends now: nobody may read from a connection that is closed.
        await self._worker.do(self._stream.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        self._worker.end()


class AsyncRunStream(AsyncCommandStream[RunStream]):
    """A command in a throwaway VM: `RunAccepted`, `Progress`, `RunStarted`, output, and last `RunFinished`."""


class AsyncExecStream(AsyncCommandStream[ExecStream]):
    """A command in a workspace: `ExecStarted`, output, and last `ExecInfo`. `exec_id` is empty before its start."""

    @property
    def exec_id(self) -> str:
        return self._stream.exec_id


A = TypeVar("A", bound=AsyncCommandStream[Any])


class Opening(Generic[A]):
    """A command that is about to be started: awaited it gives its stream; `async with` it closes the stream, too."""

    def __init__(self, begin: Callable[[], Coroutine[Any, Any, A]]) -> None:
        self._begin = begin
        self._stream: A | None = None

    def __await__(self) -> Generator[Any, None, A]:
        return self._begin().__await__()

    async def __aenter__(self) -> A:
        self._stream = await self._begin()
        return self._stream

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            await self._stream.close()


def _fetched(parts: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop) -> Iterator[bytes]:
    """The parts, for a thread that is not the event loop's."""

    async def fetch() -> bytes | None:
        return await anext(parts, None)

    while (part := asyncio.run_coroutine_threadsafe(fetch(), loop).result()) is not None:
        yield part
