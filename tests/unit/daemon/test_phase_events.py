"""Phases reach a client as they end, in their order, and before what came after them."""

import asyncio

import pytest

from pyro_mcp import phases
from pyro_mcp.daemon.phase_events import telling_phases
from pyro_mcp.errors import PyroError
from pyro_mcp.events import Event, OutputChunk
from pyro_mcp.models import Phase


class Client:
    """Notes what it gets; while it does not read, whoever emits waits."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.waits = asyncio.Event()
        self.news = asyncio.Event()

    async def emit(self, event: Event | OutputChunk) -> None:
        self.waits.set()
        await self.reads.wait()
        self.got.append(event.name if isinstance(event, Phase) else event.data.decode())  # type: ignore[union-attr]
        self.news.set()

    async def gets(self, *names: str) -> None:
        """Wait until it has got these and nothing else."""
        async with asyncio.timeout(10):
            while self.got != list(names):
                await self.news.wait()
                self.news.clear()


OUTPUT = OutputChunk("stdout", b"output")


async def test_a_phase_is_told_while_nothing_else_is() -> None:
    client = Client()
    async with telling_phases(client.emit):
        phases.ended("first")
        await client.gets("first")
        phases.ended("second")
        await client.gets("first", "second")


async def test_what_is_emitted_comes_behind_the_phases_before_it() -> None:
    client = Client()
    client.reads.clear()
    async with telling_phases(client.emit) as tell:
        phases.ended("first")
        await client.waits.wait()
        telling = asyncio.ensure_future(tell(OUTPUT))
        phases.ended("second")
        client.reads.set()
        await telling
        assert client.got == ["first", "second", "output"]
    assert client.got == ["first", "second", "output"]


async def test_an_error_comes_behind_them_too() -> None:
    client = Client()

    async def fail() -> None:
        async with telling_phases(client.emit):
            phases.ended("first")
            raise PyroError("failed", "no")

    with pytest.raises(PyroError):
        await fail()
    assert client.got == ["first"]


async def test_nobody_waits_for_a_client_that_has_left() -> None:
    client = Client()
    client.reads.clear()

    async def work() -> None:
        async with telling_phases(client.emit):
            phases.ended("first")
            await asyncio.Event().wait()

    working = asyncio.create_task(work())
    await client.waits.wait()
    working.cancel()
    async with asyncio.timeout(10):
        await asyncio.wait((working,))
    assert (working.cancelled(), client.got) == (True, [])
