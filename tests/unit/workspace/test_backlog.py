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


async def test_single_bytes_cost_what_they_hold() -> None:
    """They are put together; without that they would be worth hundreds of bytes each."""
    backlog = Backlog()
    async with asyncio.timeout(30):  # there is room for all of them
        for number in range(100_000):
            await backlog.put(OutputChunk("stdout", bytes([number % 251])))
    await backlog.close()
    taken = await _taken(backlog)
    assert len(taken) < 10
    assert b"".join(chunk.data for chunk in taken) == bytes(number % 251 for number in range(100_000))


async def test_single_bytes_of_two_streams_count_for_more_than_a_byte() -> None:
    backlog = Backlog()
    putting = asyncio.create_task(_put_each(backlog, 10_000))
    assert await _held_back(putting)
    await backlog.close()
    await putting
    taken = await _taken(backlog)
    assert 100 < len(taken) <= 1024
    assert [chunk.stream for chunk in taken[:4]] == ["stdout", "stderr"] * 2


async def test_small_and_large_chunks_keep_their_order() -> None:
    sizes = [1, 4095, 4096, 4097, 3, 1, *[3000] * 50, 5000, 7]
    chunks = [OutputChunk("stderr", bytes([mark]) * size) for mark, size in enumerate(sizes)]
    backlog = Backlog()
    async with asyncio.timeout(30):
        for chunk in chunks:
            await backlog.put(chunk)
    await backlog.close()
    taken = await _taken(backlog)
    assert b"".join(chunk.data for chunk in taken) == b"".join(chunk.data for chunk in chunks)
    assert all(type(chunk.data) is bytes and chunk.stream == "stderr" for chunk in taken)


async def test_room_is_given_back_for_small_chunks_too() -> None:
    backlog = Backlog()
    putting = asyncio.create_task(_put_each(backlog, 10_000))
    taking = asyncio.create_task(_taken(backlog))
    await putting
    await backlog.close()
    assert sum(len(chunk.data) for chunk in await taking) == 10_000


async def _put_each(backlog: Backlog, count: int) -> None:
    for number in range(count):
        await backlog.put(OutputChunk("stderr" if number % 2 else "stdout", b"x"))


async def _taken(backlog: Backlog) -> list[OutputChunk]:
    taken: list[OutputChunk] = []

    async def emit(event: Event | OutputChunk) -> None:
        assert isinstance(event, OutputChunk)
        taken.append(event)

    await backlog.emit_all(emit)
    return taken


async def _never(event: Event | OutputChunk) -> None:
    raise AssertionError(f"{event} should be gone")
