"""A client of a fake agent, and what a command in it does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pyro_mcp.guest.client import GuestClient, GuestCommand, connect
from pyro_mcp.guest.messages import Exec
from tests.support.fake_agent import (
    AgentStream,
    FakeAgent,
    Handler,
    channel,
    opened,
    serving,
)

EXITED = {"type": "exited", "exit_code": 0, "signal": None, "timed_out": False}


@asynccontextmanager
async def session(handler: Handler) -> AsyncIterator[tuple[GuestClient, FakeAgent]]:
    """A client of an agent that hands every stream to `handler`."""
    with channel() as (ours, theirs):
        async with (
            asyncio.timeout(60),
            serving(theirs, handler) as agent,
            connect(opened(ours), timeout_seconds=30) as client,
        ):
            yield client, agent


def saying(*parts: bytes) -> Handler:
    """An agent that takes the request, sends these bytes and ends the stream."""

    async def handler(stream: AgentStream) -> None:
        await stream.request()
        await stream.send(b"".join(parts))
        stream.finish()

    return handler


async def events_of(command: GuestCommand) -> list[object]:
    """All that happens to a command."""
    return [event async for event in command.events()]


async def run(handler: Handler) -> list[object]:
    """All that happens to a command that `handler` is to run."""
    async with session(handler) as (client, _), client.exec(Exec(("true",))) as command:
        return await events_of(command)
