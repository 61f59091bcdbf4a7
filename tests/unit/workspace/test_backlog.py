"""What happens to events for which nobody has time, or which nobody wants."""

import asyncio

from pyro_mcp.events import Event, OutputChunk
from pyro_mcp.workspace.backlog import Backlog

CHUNK = OutputChunk("stdout", bytes(100_000))


async def _put_all(backlog: Backlog, count: int) -> None:
    for _ in range(count):
        await backlog.put(CHUNK)


async def _held_back(putting: "asyncio.Task[None]") -> bool:
    for _ in range(20):
        await asyncio.sleep(0)
    return not putting.done()


async def test_there_is_room_for_some_events_only() -> None:
    backlog = Backlog()
    putting = asyncio.create_task(_put_all(backlog, 10))
    assert await _held_back(putting)
    taken: list[Event | OutputChunk] = []

    async def emit(event: Event | OutputChunk) -> None:
        taken.append(event)

    emitting = asyncio.create_task(backlog.emit_all(emit))
    await putting
    await backlog.close()
    await emitting
    assert taken == [CHUNK] * 10


async def test_lifting_makes_room() -> None:
    backlog = Backlog()
    putting = asyncio.create_task(_put_all(backlog, 50))
    assert await _held_back(putting)
    await backlog.lift()
    await putting


async def test_dropping_lets_everything_pass_and_keeps_nothing() -> None:
    backlog = Backlog()
    putting = asyncio.create_task(_put_all(backlog, 10))
    assert await _held_back(putting)
    await backlog.drop()
    await putting
    await backlog.emit_all(_never)


async def test_nothing_is_kept_after_the_close() -> None:
    backlog = Backlog()
    await backlog.close()
    await _put_all(backlog, 10)
    await backlog.emit_all(_never)


async def _never(event: Event | OutputChunk) -> None:
    raise AssertionError(f"{event} should be gone")
