"""A stream of events lasts as long as somebody reads it, and no longer."""

import asyncio
import logging
from typing import Any

import pytest

from pyro_mcp.daemon.streaming import MEDIA_TYPE, Emit, EventStream
from pyro_mcp.errors import NotFound
from pyro_mcp.events import OutputChunk, event_from_json
from pyro_mcp.guest.frames import FrameDecoder, Message, Output, Tag
from pyro_mcp.models import RunAccepted
from tests.support.waiting import until


class Reader:
    """The client's side of an ASGI response: takes what is sent for as long as `reading` is set."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.reading = asyncio.Event()
        self.reading.set()
        self.gone = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        if not self.sent:
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        await asyncio.sleep(0)
        await self.reading.wait()

    async def follow(self, stream: EventStream) -> None:
        await stream({"type": "http"}, self.receive, self.send)

    @property
    def items(self) -> list[Output | Message]:
        decoder = FrameDecoder()
        body = b"".join(message.get("body", b"") for message in self.sent)
        items = list(decoder.feed(body))
        assert not decoder.inside_frame
        return items


async def test_events_are_sent_in_order_and_ended() -> None:
    async def produce(emit: Emit) -> None:
        await emit(RunAccepted("abc"))
        await emit(OutputChunk("stdout", b"out"))
        await emit(OutputChunk("stderr", b"err"))

    reader = Reader()
    await reader.follow(EventStream(produce))
    start, *bodies = reader.sent
    assert (start["status"], dict(start["headers"])) == (200, {b"content-type": MEDIA_TYPE})
    assert [body.get("more_body", False) for body in bodies] == [True, True, True, False]
    accepted, *outputs = reader.items
    assert isinstance(accepted, Message)
    assert event_from_json(accepted.content) == RunAccepted("abc")
    assert outputs == [Output(Tag.STDOUT, b"out"), Output(Tag.STDERR, b"err")]


async def test_an_error_is_the_last_event() -> None:
    async def produce(emit: Emit) -> None:
        await emit(RunAccepted("abc"))
        raise NotFound("unknown_environment", "no such thing", "look again")

    reader = Reader()
    await reader.follow(EventStream(produce))
    last = reader.items[-1]
    assert isinstance(last, Message)
    with pytest.raises(NotFound) as caught:
        event_from_json(last.content)
    assert (caught.value.code, caught.value.hint) == ("unknown_environment", "look again")


async def test_a_fault_of_ours_is_logged_and_told_without_its_details(caplog: pytest.LogCaptureFixture) -> None:
    async def produce(_emit: Emit) -> None:
        raise RuntimeError("/secret/path")

    reader = Reader()
    with caplog.at_level(logging.ERROR):
        await reader.follow(EventStream(produce))
    (last,) = reader.items
    assert isinstance(last, Message)
    assert (last.content["code"], last.content["exit_code"]) == ("internal", 2)
    assert "/secret/path" not in str(last.content)
    assert "/secret/path" in caplog.text


async def test_a_client_that_goes_away_cancels_the_work_and_its_clean_up_is_waited_for() -> None:
    cleaned = []

    async def produce(emit: Emit) -> None:
        await emit(RunAccepted("abc"))
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0.01)
            cleaned.append(True)

    reader = Reader()
    following = asyncio.create_task(reader.follow(EventStream(produce)))
    await until(lambda: len(reader.sent) == 2)
    reader.gone.set()
    await asyncio.wait_for(following, 30)
    assert cleaned == [True]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_client_that_goes_away_while_it_is_sent_something_cancels_the_work_too() -> None:
    reader = Reader()
    cancelled = asyncio.Event()

    async def produce(emit: Emit) -> None:
        reader.reading.clear()
        try:
            await emit(OutputChunk("stdout", b"nobody reads this"))
        except asyncio.CancelledError:
            cancelled.set()
            reader.reading.set()
            raise

    following = asyncio.create_task(reader.follow(EventStream(produce)))
    await until(lambda: len(reader.sent) == 2)
    reader.gone.set()
    await asyncio.wait_for(following, 30)
    assert cancelled.is_set()


async def test_a_client_that_does_not_read_holds_the_work_back() -> None:
    emitted = 0

    async def produce(emit: Emit) -> None:
        nonlocal emitted
        while True:
            await emit(OutputChunk("stdout", b"x"))
            emitted += 1

    reader = Reader()
    following = asyncio.create_task(reader.follow(EventStream(produce)))
    await until(lambda: emitted > 10)
    reader.reading.clear()
    await asyncio.sleep(0.01)
    held_at = emitted
    await asyncio.sleep(0.01)
    assert emitted == held_at
    reader.reading.set()
    await until(lambda: emitted > held_at + 10)
    reader.gone.set()
    await asyncio.wait_for(following, 30)


async def test_a_server_that_ends_cancels_the_work_and_waits_for_its_clean_up() -> None:
    cleaned = []

    async def produce(_emit: Emit) -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0.01)
            cleaned.append(True)

    reader = Reader()
    following = asyncio.create_task(reader.follow(EventStream(produce)))
    await until(lambda: len(reader.sent) == 1)
    await asyncio.sleep(0)
    following.cancel()
    await asyncio.wait((following,))
    assert cleaned == [True]


async def test_what_cannot_be_sent_any_more_is_no_fault() -> None:
    reader = Reader()

    async def produce(emit: Emit) -> None:
        await emit(RunAccepted("abc"))

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise OSError("gone")
        await reader.send(message)

    await EventStream(produce)({"type": "http"}, reader.receive, send)
    assert len(reader.sent) == 1
