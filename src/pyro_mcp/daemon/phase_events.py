"""Where the time of a request goes, told to its client while it goes on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pyro_mcp import phases, tasks
from pyro_mcp.daemon.streaming import Emit
from pyro_mcp.errors import PyroError
from pyro_mcp.events import Event, OutputChunk


@asynccontextmanager
async def telling_phases(emit: Emit) -> AsyncIterator[Emit]:
    """Record the phases that end in this block, and emit each when it has ended.

    What the block emits goes through the emitter that this yields, so that it comes behind all phases that ended
    before it; and all have been told of before an error of the block's is.
    """
    ended = asyncio.Event()
    recorder = phases.PhaseRecorder(on_end=ended.set)
    sending = asyncio.Lock()  # no phase is told twice, or after a later one

    async def tell(*events: Event | OutputChunk) -> None:
        async with sending:
            for event in (*recorder.news(), *events):
                await emit(event)

    async def keep_telling() -> None:
        while True:
            await ended.wait()
            ended.clear()
            await tell()

    telling = asyncio.create_task(keep_telling())
    try:
        with phases.recording(recorder):
            yield tell
    except PyroError:
        await tell()
        raise
    finally:
        await tasks.end(telling)
