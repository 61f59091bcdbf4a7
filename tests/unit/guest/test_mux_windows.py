"""The multiplexer keeps to the windows, makes the guest keep to them, and holds no more than they allow."""

import asyncio
import sys

import pytest

from pyro_mcp.guest.mux import RECEIVE_WINDOW, StreamReset
from pyro_mcp.guest.violation import ProtocolViolation
from tests.support.fake_agent import INITIAL_WINDOW
from tests.support.mux_pair import pair, read_to_end
from tests.support.wire import DATA, FIN, PING, RST, SYN, WINDOW_UPDATE, MuxFrame, mux_frame

# Flow control, host to guest


async def test_we_never_send_more_than_the_guest_allows() -> None:
    async with pair() as both:
        stream = await both.open()
        writing = asyncio.create_task(stream.write(b"x" * (INITIAL_WINDOW + 1000)))
        got = 0
        while got < INITIAL_WINDOW:
            got += len((await both.wire.receive()).payload)
        assert got == INITIAL_WINDOW
        await both.settled()
        assert not writing.done()
        both.wire.send(WINDOW_UPDATE, 0, 1, 400)
        assert len((await both.wire.receive()).payload) == 400
        both.wire.send(WINDOW_UPDATE, 0, 1, 5000)
        assert len((await both.wire.receive()).payload) == 600
        await writing


async def test_a_full_window_of_one_stream_does_not_hold_up_another() -> None:
    async with pair() as both:
        full, free = await both.open(), await both.open()
        writing = asyncio.create_task(full.write(b"x" * (INITIAL_WINDOW + 1)))
        got = 0
        while got < INITIAL_WINDOW:
            got += len((await both.wire.receive()).payload)
        await free.write(b"through")
        assert await both.wire.receive() == MuxFrame(DATA, 0, free.id, 7, b"through")
        assert not writing.done()
        writing.cancel()


async def test_a_guest_that_reads_nothing_holds_the_writer_back_with_bounded_memory() -> None:
    async with pair() as both:
        stream = await both.open()
        both.wire.send(WINDOW_UPDATE, 0, 1, 2**31)
        both.wire.stop_reading()
        writing = asyncio.create_task(stream.write(bytes(64 << 20)))
        done, _ = await asyncio.wait((writing,), timeout=0.2)
        assert not done
        assert both.session._writer.transport.get_write_buffer_size() < 1 << 20
        writing.cancel()


async def test_a_writer_that_waits_for_the_window_fails_with_the_stream() -> None:
    async with pair() as both:
        stream = await both.open()
        writing = asyncio.create_task(stream.write(b"x" * (INITIAL_WINDOW + 1)))
        got = 0
        while got < INITIAL_WINDOW:
            got += len((await both.wire.receive()).payload)
        both.wire.send(WINDOW_UPDATE, RST, 1, 0)
        with pytest.raises(StreamReset):
            await writing


async def test_large_writes_are_cut_so_that_streams_take_turns() -> None:
    async with pair() as both:
        stream = await both.open()
        writing = asyncio.create_task(stream.write(b"x" * 200_000))
        sizes = [(await both.wire.receive()).length for _ in range(4)]
        await writing
        assert sum(sizes) == 200_000
        assert max(sizes) <= 64 * 1024


# Flow control, guest to host


async def test_the_window_is_given_back_as_it_is_read() -> None:
    async with pair() as both:
        stream = await both.open()
        half = RECEIVE_WINDOW // 2
        both.wire.data(1, b"a" * (half - 1))
        both.wire.data(1, b"b")
        both.wire.data(1, b"c" * half)
        await both.settled()
        assert len(await stream.read()) == half - 1
        both.wire.send(PING, SYN, 0, 1)
        assert (await both.wire.receive()).kind == PING  # not yet
        assert await stream.read() == b"b"
        assert await both.wire.receive() == MuxFrame(WINDOW_UPDATE, 0, 1, half)
        both.wire.data(1, b"d" * half)
        assert len(await stream.read()) == half
        assert both.session.ended is None


async def test_any_amount_passes_through_the_window() -> None:
    async with pair() as both:
        stream = await both.open()
        total = RECEIVE_WINDOW * 5 + 123

        async def send() -> None:
            window, sent = RECEIVE_WINDOW, 0
            while sent < total:
                part = min(window, total - sent, 100_000)
                if part:
                    both.wire.data(1, bytes(part))
                    window, sent = window - part, sent + part
                    await both.wire.writer.drain()
                else:
                    window += (await both.wire.receive()).length
            both.wire.send(DATA, FIN, 1, 0)

        sending = asyncio.create_task(send())
        assert len(await read_to_end(stream)) == total
        await sending


@pytest.mark.parametrize("sizes", [[RECEIVE_WINDOW, 1], [1, RECEIVE_WINDOW], [RECEIVE_WINDOW // 2 + 1] * 2])
async def test_a_guest_that_overruns_its_window_ends_the_session(sizes: list[int]) -> None:
    async with pair() as both:
        stream, other = await both.open(), await both.open()
        for size in sizes:
            both.wire.data(1, bytes(size))
        assert "window" in await both.ended()
        for each in (stream, other):
            with pytest.raises(ProtocolViolation, match="window"):
                await read_to_end(each)


@pytest.mark.parametrize("length", [RECEIVE_WINDOW + 1, 2**31, 2**32 - 1])
async def test_a_huge_length_is_refused_before_anything_is_stored(length: int) -> None:
    async with pair() as both:
        await both.open()
        both.wire.send(DATA, 0, 1, length)  # and no payload: nobody waits for it
        assert "window" in await both.ended()


async def test_a_slow_reader_holds_the_guest_back_with_bounded_memory() -> None:
    async with pair() as both:
        stream = await both.open()
        for _ in range(16):
            both.wire.data(1, bytes(RECEIVE_WINDOW // 16))
        await both.settled()
        assert sum(map(len, stream._chunks)) == RECEIVE_WINDOW
        both.wire.send(PING, SYN, 0, 1)
        assert (await both.wire.receive()).kind == PING  # no window was given back
        assert len(await stream.read()) == RECEIVE_WINDOW // 16


async def test_empty_frames_fit_any_window_and_so_are_not_kept() -> None:
    async with pair() as both:
        stream = await both.open()
        both.wire.writer.write(mux_frame(DATA, 0, 1, 0) * 100_000)
        await both.settled()
        assert not stream._chunks
        both.wire.data(1, b"then bytes")
        assert await stream.read() == b"then bytes"


async def test_tiny_frames_cost_no_more_memory_than_the_window() -> None:
    async with pair() as both:
        stream = await both.open()
        both.wire.writer.write(mux_frame(DATA, 0, 1, 2, b"ab") * 100_000)
        await both.settled()
        assert sum(map(sys.getsizeof, stream._chunks)) < RECEIVE_WINDOW
        both.wire.send(DATA, FIN, 1, 0)
        assert await read_to_end(stream) == b"ab" * 100_000


async def test_small_and_large_frames_keep_their_order() -> None:
    async with pair() as both:
        stream = await both.open()
        sizes = [1, 4095, 4096, 4097, 3, 1, 70_000, *[4000] * 30, 5000, 7]
        parts = [bytes([mark]) * size for mark, size in enumerate(sizes)]
        for part in parts:
            both.wire.data(1, part)
        await both.settled()
        early = await stream.read()
        both.wire.data(1, b"late")
        both.wire.send(DATA, FIN, 1, 0)
        assert early + await read_to_end(stream) == b"".join(parts) + b"late"


async def test_what_was_read_does_not_change_with_what_comes() -> None:
    async with pair() as both:
        stream = await both.open()
        both.wire.data(1, b"one")
        first = await stream.read()
        both.wire.data(1, b"two")
        assert [first, await stream.read()] == [b"one", b"two"]
        assert type(first) is bytes


async def test_data_after_the_end_ends_the_session() -> None:
    async with pair() as both:
        await both.open()
        both.wire.send(DATA, FIN, 1, 0)
        both.wire.data(1, b"more")
        assert "after the stream's end" in await both.ended()
