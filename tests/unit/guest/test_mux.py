"""The multiplexer keeps to the windows, makes the guest keep to them, and holds no more than they allow."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_mcp.errors import GuestFailed
from pyro_mcp.guest import mux
from pyro_mcp.guest.mux import RECEIVE_WINDOW, MuxSession, MuxStream, StreamReset
from pyro_mcp.guest.violation import ProtocolViolation
from tests.support.fake_agent import INITIAL_WINDOW, channel, wire_over
from tests.support.waiting import until
from tests.support.wire import ACK, DATA, FIN, GO_AWAY, PING, RST, SYN, WINDOW_UPDATE, MuxFrame, Wire, mux_frame


@dataclass
class Pair:
    """A session under test and the guest's end of it."""

    session: MuxSession
    wire: Wire
    serving: "asyncio.Task[None]"

    async def open(self) -> MuxStream:
        """A stream that the guest has seen and accepted."""
        stream = self.session.open_stream()
        opened = await self.wire.receive()
        assert opened == MuxFrame(WINDOW_UPDATE, SYN, stream.id, RECEIVE_WINDOW - INITIAL_WINDOW)
        self.wire.send(WINDOW_UPDATE, ACK, stream.id, 0)
        return stream

    async def ended(self) -> str:
        """Why the session ended; it must."""
        async with asyncio.timeout(30):
            await self.serving
        assert self.session.ended is not None
        return self.session.ended

    async def settled(self) -> None:
        """Everything that the guest has sent so far has been dealt with: it is answered in order."""
        self.wire.send(PING, SYN, 0, 77)
        while (await self.wire.receive()).kind != PING:
            pass


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    with channel() as (ours, theirs):
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=1 << 20)
        async with wire_over(theirs) as wire:
            session = MuxSession(reader, writer)
            serving = asyncio.create_task(session.serve())
            try:
                yield Pair(session, wire, serving)
            finally:
                serving.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await serving
                writer.transport.abort()
                await asyncio.sleep(0)


async def _flood(wire: Wire, data: bytes) -> None:
    while True:
        wire.writer.write(data)
        await wire.writer.drain()


async def _read_to_end(stream: MuxStream) -> bytes:
    received = b""
    while part := await stream.read():
        received += part
    return received


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
        assert await _read_to_end(stream) == b"last"
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
        assert len(await _read_to_end(stream)) == total
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
                await _read_to_end(each)


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
        assert await _read_to_end(stream) == b"ab" * 100_000


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
        assert early + await _read_to_end(stream) == b"".join(parts) + b"late"


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


# The session


@pytest.mark.parametrize(
    "header",
    [
        mux_frame(DATA, 0, 1, 0, version=1),
        mux_frame(4, 0, 1, 0),
        mux_frame(255, 0, 1, 0),
        mux_frame(DATA, 16, 1, 0),
        mux_frame(DATA, 0x8000, 1, 0),
        b"PYROR" + b"\xff" * 7,
    ],
    ids=["version", "kind", "wild kind", "flag", "wild flag", "a packet of the preamble"],
)
async def test_a_malformed_header_ends_the_session(header: bytes) -> None:
    async with pair() as both:
        stream = await both.open()
        both.wire.writer.write(header)
        assert "malformed" in await both.ended()
        with pytest.raises(ProtocolViolation, match="malformed"):
            await stream.read()


@pytest.mark.parametrize(
    ("flags", "stream"),
    [(SYN, 2), (SYN, 1), (SYN, 3), (0, 2), (0, 0), (0, 3), (0, 2**32 - 1), (RST, 4)],
)
@pytest.mark.parametrize("kind", [DATA, WINDOW_UPDATE])
async def test_a_stream_that_we_did_not_open_ends_the_session(kind: int, flags: int, stream: int) -> None:
    async with pair() as both:
        await both.open()
        both.wire.send(kind, flags, stream, 0)
        assert "did not open" in await both.ended()


async def test_pings_are_answered_and_answers_ignored() -> None:
    async with pair() as both:
        both.wire.send(PING, ACK, 0, 5)
        for value in (0, 1, 2**32 - 1):
            both.wire.send(PING, SYN, 0, value)
            assert await both.wire.receive() == MuxFrame(PING, ACK, 0, value)


async def test_a_guest_that_floods_pings_without_reading_slows_itself_alone() -> None:
    async with pair() as both:
        both.wire.stop_reading()
        flooding = asyncio.create_task(_flood(both.wire, mux_frame(PING, SYN, 0, 1) * 1000))
        done, _ = await asyncio.wait((flooding,), timeout=0.5)
        assert not done
        flooding.cancel()
        assert both.session._writer.transport.get_write_buffer_size() < 1 << 20


async def test_a_guest_that_sends_only_tiny_frames_leaves_time_for_others() -> None:
    reader = asyncio.StreamReader(limit=1 << 20)
    with channel() as (ours, _):
        _, writer = await asyncio.open_unix_connection(sock=ours)
        session = MuxSession(reader, writer)
        session.open_stream()
        reader.feed_data(mux_frame(WINDOW_UPDATE, 0, 1, 1) * 50_000)
        reader.feed_eof()
        serving = asyncio.create_task(session.serve())
        turns: list[bool] = []
        await until(lambda: turns.append(True) or serving.done())  # type: ignore[func-returns-value]
        assert len(turns) > 100
        writer.transport.abort()


async def test_a_channel_that_breaks_while_a_ping_is_answered_is_a_plain_end() -> None:
    async with pair() as both:
        stream = await both.open()
        both.wire.stop_reading()
        both.wire.writer.write(mux_frame(PING, SYN, 0, 1) * 100_000)
        await until(lambda: both.session._writer.transport.get_write_buffer_size() > 0)
        await both.wire.close()
        assert "closed" in await both.ended()
        with pytest.raises(StreamReset):
            await stream.read()


@pytest.mark.parametrize("how", ["go away", "close", "close inside a header", "close inside a payload"])
async def test_the_end_of_the_session_fails_every_stream(how: str) -> None:
    async with pair() as both:
        streams = [await both.open() for _ in range(3)]
        reading = [asyncio.create_task(stream.read()) for stream in streams]
        await asyncio.sleep(0)
        match how:
            case "go away":
                both.wire.send(GO_AWAY, 0, 0, 0)
            case "close inside a header":
                both.wire.writer.write(b"\0\0\0")
            case "close inside a payload":
                both.wire.send(DATA, 0, 1, 100, b"half")
        if how.startswith("close"):
            both.wire.writer.close()
        assert await both.ended() == "the guest went away: its channel was closed"
        for task in reading:
            with pytest.raises(StreamReset, match="channel was closed"):
                await task
        for stream in streams:
            with pytest.raises(StreamReset):
                await stream.write(b"x")
        with pytest.raises(StreamReset):
            both.session.open_stream()


async def test_what_had_arrived_before_the_end_can_still_be_read() -> None:
    async with pair() as both:
        stream = await both.open()
        both.wire.data(1, b"last words")
        await both.wire.writer.drain()
        both.wire.writer.close()
        await both.ended()
        assert await stream.read() == b"last words"
        with pytest.raises(StreamReset):
            await stream.read()


async def test_a_session_that_is_cancelled_ends_its_streams() -> None:
    async with pair() as both:
        stream = await both.open()
        both.serving.cancel()
        await asyncio.wait((both.serving,))
        with pytest.raises(StreamReset, match="session was closed"):
            await stream.read()
        assert both.session.ended == "the guest went away: the session was closed"


async def test_the_channel_can_be_aborted_after_the_end_of_a_session_with_unsent_data() -> None:
    async with pair() as both:
        both.wire.stop_reading()
        both.wire.writer.write(mux_frame(PING, SYN, 0, 1) * 100_000)
        await until(lambda: both.session._writer.transport.get_write_buffer_size() > 0)
        both.serving.cancel()
        await asyncio.wait((both.serving,))
        both.wire.read_again()
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await both.wire.receive():
                pass
        # What the session's owner does in the end; asyncio's own fails if the rest has drained after a `close`.
        both.session._writer.transport.abort()


def test_a_lost_stream_is_an_error_of_the_guest() -> None:
    error = StreamReset("why")
    assert isinstance(error, GuestFailed)
    assert (error.code, error.exit_code) == ("guest_gone", 2)


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
                assert await _read_to_end(stream) == wanted

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
            assert await _read_to_end(stream) == wanted
            await writing

        echoing = asyncio.create_task(echo())
        await asyncio.gather(*(talk(mark) for mark in range(count)))
        assert not both.session._streams  # nothing is remembered of streams that ended
        echoing.cancel()
        await asyncio.wait((echoing,))
