"""When a machine's memory is asked back, what its guest may say of it, and that it has all of it while it is used."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pyro_mcp.errors import GuestFailed
from pyro_mcp.guest.client import GuestClient
from pyro_mcp.workspace import give_back as module
from pyro_mcp.workspace.give_back import Resting, give_back
from tests.support.fake_agent import AgentStream
from tests.support.fake_commands import FakeGuest
from tests.support.fake_tools import ToolFailed
from tests.support.live_guest import live_guest
from tests.support.waiting import until

MEM_MIB = 512
RESERVE_MIB = 64


@dataclass
class FakeBalloon:
    """A balloon that does what it is asked to, or fails; `asked` is the MiB that it was to hold."""

    fails: bool = False
    asked: list[int] = field(default_factory=list)

    async def set_balloon(self, mib: int) -> None:
        await asyncio.sleep(0)
        self.asked.append(mib)
        if self.fails:
            raise GuestFailed("vmm_gone", "the VMM does not answer")


@dataclass
class Machine:
    guest: FakeGuest
    client: GuestClient
    balloon: FakeBalloon
    commands: int = 0

    def resting(self) -> Resting:
        return Resting(self.client, self.balloon, MEM_MIB, busy=lambda: self.commands > 0)

    @property
    def drops(self) -> int:
        """How often the guest was asked to drop its caches."""
        return sum(tool["name"] == "spare" for tool, _ in self.guest.tools.inputs)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for anything."""
    monkeypatch.setattr(module, "RESTED_SECONDS", 0.0)
    monkeypatch.setattr(module, "_FULL_SECONDS", 0.0)


@asynccontextmanager
async def machine(folder: Path, *, free_mib: int = 400) -> AsyncIterator[Machine]:
    async with live_guest(folder) as (guest, client):
        guest.tools.answers["spare"] = json.dumps({"free_bytes": free_mib << 20}).encode() + b"\n"
        yield Machine(guest, client, FakeBalloon())


@pytest.mark.parametrize(
    ("free_mib", "asked"),
    [(400, [336, 0]), (RESERVE_MIB + 1, [1, 0]), (RESERVE_MIB, []), (0, []), (1 << 40, [MEM_MIB - RESERVE_MIB, 0])],
)
@pytest.mark.usefixtures("at_once")
async def test_what_is_free_less_a_reserve(tmp_path: Path, free_mib: int, asked: list[int]) -> None:
    async with machine(tmp_path, free_mib=free_mib) as it:
        await give_back(it.client, it.balloon, MEM_MIB)
    assert it.balloon.asked == asked


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"no JSON",
        b"[]",
        b"{}",
        b'{"free_bytes": -1}',
        b'{"free_bytes": 1e9}',
        b'{"free_bytes": "1"}',
        b'{"free_bytes": 400000000, "more": 1}',
        b"x" * (1 << 20),
        ToolFailed("io", "read-only"),
    ],
    ids=repr,
)
async def test_a_guest_that_speaks_rubbish_is_asked_for_nothing(tmp_path: Path, answer: Any) -> None:
    async with machine(tmp_path) as it:
        it.guest.tools.answers["spare"] = answer
        with pytest.raises(GuestFailed):
            await give_back(it.client, it.balloon, MEM_MIB)
    assert it.balloon.asked == []


async def test_a_guest_that_does_not_answer_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ANSWER_SECONDS", 0.01)
    async with machine(tmp_path) as it:
        monkeypatch.setattr(it.guest, "_tool", _no_answer)
        with pytest.raises((TimeoutError, GuestFailed)):
            await give_back(it.client, it.balloon, MEM_MIB)
    assert it.balloon.asked == []


async def _no_answer(stream: AgentStream, _request: dict[str, Any]) -> None:
    await stream.was_reset.wait()


async def test_it_is_emptied_when_filling_it_fails(tmp_path: Path) -> None:
    async with machine(tmp_path) as it:
        it.balloon.fails = True
        with pytest.raises(GuestFailed):
            await give_back(it.client, it.balloon, MEM_MIB)
    assert it.balloon.asked == [336, 0]


@pytest.mark.usefixtures("at_once")
async def test_once_after_each_use(tmp_path: Path) -> None:
    async with machine(tmp_path) as it:
        resting = it.resting()
        resting.begin()
        for times in (1, 2):
            await until(lambda times=times: it.balloon.asked == [336, 0] * times)  # type: ignore[misc]
            for _ in range(100):
                await asyncio.sleep(0)
            assert it.drops == times
            async with resting.used():
                pass
        await resting.end()


@pytest.mark.usefixtures("at_once")
async def test_not_while_it_is_used_or_commands_run(tmp_path: Path) -> None:
    async with machine(tmp_path) as it:
        resting = it.resting()
        resting.begin()
        async with resting.used():
            async with resting.used():
                pass
            it.commands = 1
            for _ in range(100):
                await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert it.drops == 0
        it.commands = 0
        await until(lambda: it.balloon.asked == [336, 0])
        await resting.end()


async def test_whoever_uses_it_meanwhile_finds_all_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESTED_SECONDS", 0.0)
    async with machine(tmp_path) as it:
        resting = it.resting()
        resting.begin()
        await until(lambda: it.balloon.asked == [336])  # it stays full for some seconds
        async with resting.used():
            assert it.balloon.asked == [336, 0]
        await until(lambda: it.balloon.asked == [336, 0, 336])
        await resting.end()
        assert it.balloon.asked == [336, 0, 336, 0]


async def test_whoever_uses_it_next_tries_again_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RESTED_SECONDS", 0.0)
    async with machine(tmp_path) as it:
        resting = it.resting()
        resting.begin()
        await until(lambda: it.balloon.asked == [336])
        it.balloon.fails = True
        async with resting.used():
            assert it.balloon.asked == [336, 0, 0]
        assert {record.levelname for record in caplog.records} == {"WARNING"}
        it.balloon.fails = False
        for _ in range(2):
            async with resting.used():
                assert it.balloon.asked == [336, 0, 0, 0]
        await resting.end()
        assert it.balloon.asked == [336, 0, 0, 0]


@pytest.mark.usefixtures("at_once")
async def test_a_vmm_that_fails_does_no_harm(tmp_path: Path) -> None:
    async with machine(tmp_path) as it:
        it.balloon.fails = True
        resting = it.resting()
        await resting.take_over()
        resting.begin()
        await until(lambda: it.balloon.asked == [0, 336, 0])
        async with resting.used():
            pass
        await resting.end()


@pytest.mark.usefixtures("at_once")
async def test_a_machine_without_a_balloon_is_left_alone(tmp_path: Path) -> None:
    async with machine(tmp_path) as it:
        resting = Resting(it.client, None, MEM_MIB, busy=lambda: False)
        await resting.take_over()
        resting.begin()
        async with resting.used():
            pass
        for _ in range(100):
            await asyncio.sleep(0)
        assert it.drops == 0
        await resting.end()


@pytest.mark.usefixtures("at_once")
async def test_nothing_happens_after_its_end(tmp_path: Path) -> None:
    async with machine(tmp_path) as it:
        resting = it.resting()
        resting.begin()
        await resting.end()
        async with resting.used():
            pass
        for _ in range(100):
            await asyncio.sleep(0)
        assert (it.drops, it.balloon.asked) == (0, [])
