"""Pipes between a thread that reads or writes files and the event loop, which talks to the guest.

A pipe holds each side back while the other is slow, and breaks when one of them goes: nothing is queued without bound,
and no thread is left waiting.
"""

import asyncio
import contextlib
import fcntl
import io
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import BinaryIO, cast

from pyro_mcp import tasks
from pyro_mcp.transfer.limits import CHUNK_BYTES
from pyro_mcp.transfer.worker import in_thread

_PIPE_BYTES = 1 << 20


@asynccontextmanager
async def produced(
    fill: Callable[[int], object], stop: Callable[[], object]
) -> AsyncIterator[AsyncGenerator[bytes, None]]:
    """The bytes that `fill` writes to a descriptor in a thread of its own; what it raises comes after the last of them.

    Leaving the block early calls `stop` and breaks the pipe, and waits for the thread.
    """
    reader, writer = _pipe()
    os.set_blocking(reader, False)
    closing = contextlib.ExitStack()
    closing.callback(os.close, reader)

    def work() -> None:
        try:
            fill(writer)
        finally:
            os.close(writer)

    def give_up() -> None:
        stop()
        closing.close()

    thread = asyncio.create_task(in_thread(work, give_up))
    try:
        await asyncio.sleep(0)  # a task that is cancelled before it begins would leave its descriptors open
        yield _read(reader, thread)
    finally:
        give_up()
        await tasks.end(thread)


async def _read(reader: int, thread: "asyncio.Task[None]") -> AsyncGenerator[bytes, None]:
    while True:
        try:
            data = os.read(reader, CHUNK_BYTES)
        except BlockingIOError:
            await _ready(reader, writing=False)
            continue
        if not data:
            await asyncio.shield(thread)
            return
        yield data


class Consumer:
    """The other direction: bytes for a thread that reads them from a pipe."""

    def __init__(self, take: Callable[[BinaryIO], object], stop: Callable[[], object]) -> None:
        self._take = take
        self._stop = stop
        self._reader, self._writer = _pipe()
        os.set_blocking(self._writer, False)
        self._closing = contextlib.ExitStack()
        self._closing.callback(os.close, self._writer)
        self._thread = asyncio.create_task(in_thread(self._work, self._give_up))

    async def feed(self, data: bytes) -> None:
        """Pass bytes on; waits while the thread is busy, and raises what the thread raised."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._writer, view) :]
            except BlockingIOError:
                await _ready(self._writer, writing=True)
            except BrokenPipeError:
                await asyncio.shield(self._thread)
                raise

    async def finish(self) -> None:
        """Tell the thread that this is all, wait for its end and raise what it raised."""
        self._closing.close()
        await asyncio.shield(self._thread)

    def _work(self) -> None:
        with io.BufferedReader(cast("io.RawIOBase", io.FileIO(self._reader)), CHUNK_BYTES) as source:
            self._take(cast("BinaryIO", source))

    def _give_up(self) -> None:
        self._stop()
        self._closing.close()

    async def end(self) -> None:
        """End the thread, whatever it is doing, and wait for it."""
        self._give_up()
        await tasks.end(self._thread)


@asynccontextmanager
async def consumed(take: Callable[[BinaryIO], object], stop: Callable[[], object]) -> AsyncIterator[Consumer]:
    """A thread that runs `take` on a stream of what is fed to it; leaving early calls `stop` and ends the stream."""
    consumer = Consumer(take, stop)
    try:
        await asyncio.sleep(0)  # as above
        yield consumer
    finally:
        await consumer.end()


def _pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    with contextlib.suppress(OSError):  # a user may have as many large pipes as there may be
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return reader, writer


async def _ready(fd: int, *, writing: bool) -> None:
    """Wait until a descriptor can be read from or written to."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    add: Callable[..., object] = loop.add_writer if writing else loop.add_reader
    remove: Callable[[int], object] = loop.remove_writer if writing else loop.remove_reader
    add(fd, tell)
    try:
        await ready
    finally:
        remove(fd)
