"""The multiplexer's session: what ends it, and what it costs."""

import asyncio
import contextlib

import pytest

from pyro_mcp.errors import GuestFailed
from pyro_mcp.guest.mux import MuxSession, StreamReset
from pyro_mcp.guest.violation import ProtocolViolation
from tests.support.fake_agent import channel
from tests.support.mux_pair import flood, pair
from tests.support.waiting import until
from tests.support.wire import ACK, DATA, GO_AWAY, PING, RST, SYN, WINDOW_UPDATE, MuxFrame, mux_frame


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
        flooding = asyncio.create_task(flood(both.wire, mux_frame(PING, SYN, 0, 1) * 1000))
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
