"""Streams of the multiplexer: how they begin, carry bytes, end, and do not mix."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_mcp.guest import mux
from pyro_mcp.guest.mux import RECEIVE_WINDOW, StreamReset
from tests.support.fake_agent import INITIAL_WINDOW
from tests.support.mux_pair import pair, read_to_end
from tests.support.wire import ACK, DATA, FIN, PING, RST, SYN, WINDOW_UPDATE, MuxFrame

# Streams and their numbers


async def test_our_streams_have_odd_numbers_in_order() -> None:
    async with pair() as both:
        assert [(await both.open()).id for _ in range(4)] == [1, 3, 5, 7]


async def test_bytes_go_both_ways() -> None:
    async with pair() as both:
        stream = await both.open()
        await stream.write(b"question")
        assert await both.wire.receive() == MuxFrame(DATA, 0, 1, 8, b"question")
        both.wire.data(1, b"answer")
        assert await stream.read() == b"answer"


async def test_an_acknowledgement_may_ride_on_an_empty_data_frame() -> None:
    """As yamux allows; it is no end of the stream."""
    async with pair() as both:
        stream = both.session.open_stream()
        await both.wire.receive()
        both.wire.send(DATA, ACK, 1, 0)
        both.wire.data(1, b"answer")
        assert await stream.read() == b"answer"


async def test_stream_numbers_run_out_rather_than_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mux, "_MAX_STREAM_ID", 3)
    async with pair() as both:
        await both.open()
        await both.open()
        with pytest.raises(StreamReset, match="used up"):
            both.session.open_stream()


# How streams end


async def test_the_guests_end_is_seen_after_its_bytes() -> None:
    async with pair() as both:
        stream = await both.open()
        both.wire.data(1, b"last", FIN)
        assert await read_to_end(stream) == b"last"
        assert await stream.read() == b""
        # The other direction is still open.
        await stream.write(b"more")
        assert (await both.wire.receive()).payload == b"more"


@pytest.mark.parametrize("kind", [DATA, WINDOW_UPDATE])
async def test_the_end_may_come_with_any_frame(kind: int) -> None:
    async with pair() as both:
        stream = await both.open()
        both.wire.send(kind, FIN, 1, 0)
        assert await stream.read() == b""


async def test_our_end_is_told_once() -> None:
    async with pair() as both:
        stream = await both.open()
        stream.close_write()
        stream.close_write()
        assert await both.wire.receive() == MuxFrame(DATA, FIN, 1, 0)
        await both.settled()
        assert not stream.done
        both.wire.send(DATA, FIN, 1, 0)
        assert await stream.read() == b""
        assert stream.done


async def test_a_stream_that_ended_both_ways_is_not_reset() -> None:
    async with pair() as both:
        stream = await both.open()
        both.wire.send(DATA, FIN, 1, 0)
        assert await stream.read() == b""
        stream.close_write()
        stream.reset()
        assert (await both.wire.receive()).flags == FIN
        both.wire.send(PING, SYN, 0, 1)
        assert (await both.wire.receive()).kind == PING


@pytest.mark.parametrize("kind", [DATA, WINDOW_UPDATE])
async def test_a_reset_by_the_guest_fails_both_directions(kind: int) -> None:
    async with pair() as both:
        stream = await both.open()
        other = await both.open()
        both.wire.data(1, b"before")
        both.wire.send(kind, RST, 1, 0)
        await both.settled()
        assert await stream.read() == b"before"
        with pytest.raises(StreamReset):
            await stream.read()
        with pytest.raises(StreamReset):
            await stream.write(b"more")
        both.wire.data(other.id, b"unharmed")
        assert await other.read() == b"unharmed"


async def test_a_reset_of_ours_is_told_once_and_ends_the_stream_here() -> None:
    async with pair() as both:
        stream = await both.open()
        waiting = asyncio.create_task(stream.read())
        await asyncio.sleep(0)
        stream.reset()
        stream.reset()
        with pytest.raises(StreamReset):
            await waiting
        with pytest.raises(StreamReset):
            await stream.write(b"more")
        assert await both.wire.receive() == MuxFrame(DATA, RST, 1, 0)
        both.wire.send(PING, SYN, 0, 1)
        assert (await both.wire.receive()).kind == PING


async def test_what_comes_late_for_a_dropped_stream_is_ignored() -> None:
    async with pair() as both:
        dropped, kept = await both.open(), await both.open()
        dropped.reset()
        for _ in range(3):
            both.wire.data(1, b"x" * RECEIVE_WINDOW)
        both.wire.send(WINDOW_UPDATE, 0, 1, 1000)
        both.wire.send(DATA, FIN, 1, 0)
        both.wire.send(DATA, RST, 1, 0)
        both.wire.data(kept.id, b"still here")
        assert await kept.read() == b"still here"
        assert both.session.ended is None


async def test_a_dropped_stream_gives_no_window_back() -> None:
    async with pair() as both:
        stream = await both.open()
        both.wire.data(1, b"x" * RECEIVE_WINDOW)
        both.wire.send(DATA, RST, 1, 0)
        await both.settled()
        assert len(await stream.read()) == RECEIVE_WINDOW
        both.wire.send(PING, SYN, 0, 1)
        assert (await both.wire.receive()).kind == PING


# Everything at once


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.binary(min_size=1, max_size=50)),
        max_size=40,
    )
)
@settings(max_examples=30, deadline=None)
def test_interleaved_streams_do_not_mix(parts: list[tuple[int, bytes]]) -> None:
    async def scenario() -> None:
        async with pair() as both:
            streams = [await both.open() for _ in range(4)]
            for which, data in parts:
                both.wire.data(streams[which].id, data)
            for stream in streams:
                both.wire.send(DATA, FIN, stream.id, 0)
            for which, stream in enumerate(streams):
                wanted = b"".join(data for to, data in parts if to == which)
                assert await read_to_end(stream) == wanted

    asyncio.run(scenario())


async def test_many_streams_with_much_data_both_ways_do_not_mix() -> None:
    """An echo through windows that are much smaller than what goes through them."""
    count, size = 20, INITIAL_WINDOW + 100_000
    async with pair() as both:

        async def echo() -> None:
            while True:
                frame = await both.wire.receive()
                if frame.kind == DATA and frame.payload:
                    both.wire.data(frame.stream, frame.payload)
                    both.wire.send(WINDOW_UPDATE, 0, frame.stream, frame.length)
                if frame.flags & FIN:
                    both.wire.send(DATA, FIN, frame.stream, 0)
                await both.wire.writer.drain()

        async def talk(mark: int) -> None:
            stream = both.session.open_stream()
            wanted = bytes([mark]) * size

            async def write() -> None:
                await stream.write(wanted)
                stream.close_write()

            writing = asyncio.create_task(write())
            assert await read_to_end(stream) == wanted
            await writing

        echoing = asyncio.create_task(echo())
        await asyncio.gather(*(talk(mark) for mark in range(count)))
        assert not both.session._streams  # nothing is remembered of streams that ended
        echoing.cancel()
        await asyncio.wait((echoing,))
