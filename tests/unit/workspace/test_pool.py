"""When machines are kept ready, and when not; the machines are fake."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from pyro_mcp.errors import HostUnfit
from pyro_mcp.images.pull import pull
from pyro_mcp.images.store import Store, reference
from pyro_mcp.workspace import pool as pool_module
from pyro_mcp.workspace.pool import Pool
from pyro_mcp.workspace.unclaimed import Shape, Unclaimed
from pyro_mcp.workspace_models import CreateWorkspace
from tests.support.waiting import until
from tests.unit.images.fake_source import FakeSource

DEBIAN = CreateWorkspace("debian:12")
_PLENTY_MIB = 1 << 20


@dataclass(eq=False)
class Ready:
    """A machine."""

    workspace_id: str
    shape: Shape
    is_alive: bool = True
    ended: bool = False
    died: asyncio.Event = field(default_factory=asyncio.Event)

    async def gone(self) -> None:
        await self.died.wait()

    def die(self) -> None:
        self.is_alive = False
        self.died.set()

    async def end(self) -> None:
        self.is_alive, self.ended = False, True


@dataclass
class Machines:
    """All that were begun; while `broken`, none begins, and while `held`, one takes its time.

    `error` is what comes of it if there is something that nobody has thought of.
    """

    images: Store
    begun: list[Ready] = field(default_factory=list)
    tries: int = 0
    broken: bool = False
    held: bool = False
    error: Exception | None = None
    spare_mib: int = _PLENTY_MIB

    async def start(self, environment: str) -> Unclaimed:
        self.tries += 1
        await asyncio.sleep(0)
        if self.broken:
            raise HostUnfit("no_template", "there is none")
        if self.error is not None:
            raise self.error
        if self.held:
            await asyncio.Event().wait()
        installed = reference(self.images, environment)
        assert installed is not None
        ready = Ready(f"w-{len(self.begun)}", Shape(environment, installed.digest, "fake"))
        self.begun.append(ready)
        return cast("Unclaimed", ready)

    def alive(self) -> list[Ready]:
        return [each for each in self.begun if each.is_alive]


@pytest.fixture
async def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machines:
    monkeypatch.setattr(pool_module, "_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(pool_module, "_TICK_SECONDS", 0.05)
    images = Store(tmp_path / "cache")
    await pull(images, "debian:12", FakeSource(), lambda _: None)
    return Machines(images)


@asynccontextmanager
async def kept(machines: Machines) -> AsyncIterator[Pool]:
    """A pool that is kept filled."""
    pool = Pool(machines.images, machines.start, lambda: machines.spare_mib)
    filling = asyncio.create_task(pool.keep_filled())
    try:
        yield pool
    finally:
        filling.cancel()
        await asyncio.wait((filling,))
    assert machines.alive() == []


async def several_ticks() -> None:
    await asyncio.sleep(0.2)


async def test_none_is_ready_unless_somebody_is_there(machines: Machines) -> None:
    async with kept(machines) as pool:
        await several_ticks()
        assert pool.take(DEBIAN) is None
        await several_ticks()
        assert machines.begun == []
        pool.want(1, somebody_came=True)
        await until(lambda: len(machines.alive()) == 1)
        await several_ticks()
        assert len(machines.begun) == 1
        pool.want(0, somebody_came=False)
        await until(lambda: machines.alive() == [])


async def test_one_that_is_taken_is_replaced(machines: Machines) -> None:
    async with kept(machines) as pool:
        pool.want(2, somebody_came=True)
        await until(lambda: len(machines.alive()) == 2)
        taken = [pool.take(DEBIAN) for _ in range(3)]
        assert [each is None for each in taken] == [False, False, True]
        assert len({id(each) for each in taken}) == 3
        await until(lambda: len(machines.alive()) == 4)
        for each in taken:
            if each is not None:
                cast("Any", each).is_alive = False
                await pool.give_back(each)
        assert [each.ended for each in machines.begun] == [True, True, False, False]


async def test_one_that_was_not_used_is_there_for_the_next(machines: Machines) -> None:
    async with kept(machines) as pool:
        pool.want(1, somebody_came=True)
        await until(lambda: len(machines.alive()) == 1)
        taken = pool.take(DEBIAN)
        assert taken is not None
        await pool.give_back(taken)
        assert pool.take(DEBIAN) is taken
        await pool.give_back(taken)


async def test_only_what_fits_is_taken(machines: Machines) -> None:
    async with kept(machines) as pool:
        pool.want(1, somebody_came=True)
        await until(lambda: len(machines.alive()) == 1)
        for other in (replace(DEBIAN, mem_mib=512), replace(DEBIAN, vcpu_count=2)):
            assert pool.take(other) is None
        machines.begun[0].is_alive = False
        assert pool.take(DEBIAN) is None
        await until(lambda: machines.begun[0].ended and len(machines.alive()) == 1)


async def test_one_that_dies_is_replaced_at_once(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_TICK_SECONDS", 600.0)
    async with kept(machines) as pool:
        pool.want(1, somebody_came=True)
        await until(lambda: len(machines.alive()) == 1)
        await several_ticks()
        machines.begun[0].die()
        await until(lambda: machines.begun[0].ended and len(machines.alive()) == 1)


async def test_they_are_of_the_environment_that_was_last_asked_for(machines: Machines) -> None:
    await pull(machines.images, "debian:12-base", FakeSource(), lambda _: None)
    async with kept(machines) as pool:
        pool.want(1, somebody_came=True)
        await until(lambda: len(machines.alive()) == 1)
        assert pool.take(CreateWorkspace("debian:12-base")) is None
        await until(lambda: [each.shape.environment for each in machines.alive()] == ["debian:12-base"])
        assert machines.begun[0].ended
        assert pool.take(CreateWorkspace("debian:12-build")) is None  # which is not installed
        await until(lambda: machines.alive() == [])


async def test_one_of_an_image_that_was_renewed_goes(machines: Machines) -> None:
    async with kept(machines) as pool:
        pool.want(1, somebody_came=True)
        await until(lambda: len(machines.alive()) == 1)
        machines.begun[0].shape = replace(machines.begun[0].shape, digest="another")
        await until(lambda: machines.begun[0].ended and len(machines.alive()) == 1)


async def test_the_host_keeps_some_memory_for_itself(machines: Machines) -> None:
    machines.spare_mib = 2000
    async with kept(machines) as pool:
        pool.want(1, somebody_came=True)
        await several_ticks()
        assert machines.begun == []
        machines.spare_mib = 4000
        await until(lambda: len(machines.alive()) == 1)
        machines.spare_mib = 1500
        await several_ticks()
        assert len(machines.alive()) == 1
        machines.spare_mib = 1000
        await until(lambda: machines.alive() == [])


async def test_they_go_when_nobody_makes_workspaces(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    async with kept(machines) as pool:
        pool.want(1, somebody_came=True)
        await until(lambda: len(machines.alive()) == 1)
        monkeypatch.setattr(pool_module, "IDLE_SECONDS", 0.0)
        await until(lambda: machines.alive() == [])
        monkeypatch.setattr(pool_module, "IDLE_SECONDS", 600.0)
        assert pool.take(DEBIAN) is None
        await until(lambda: len(machines.alive()) == 1)


async def test_a_rest_lasts_until_somebody_comes(machines: Machines) -> None:
    async with kept(machines) as pool:
        pool.want(1, somebody_came=True)
        await until(lambda: len(machines.alive()) == 1)
        await pool.rest()
        assert machines.alive() == []
        pool.want(1, somebody_came=False)
        await several_ticks()
        assert len(machines.begun) == 1
        pool.want(1, somebody_came=True)
        await until(lambda: len(machines.alive()) == 1)


async def test_what_fails_is_not_tried_over_and_over(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    machines.broken = True
    async with kept(machines) as pool:
        pool.want(1, somebody_came=True)
        await several_ticks()
        assert machines.tries == 1
        assert pool.take(DEBIAN) is None
        await several_ticks()
        assert machines.tries == 1


async def test_an_error_that_nobody_has_thought_of_is_not_the_end(
    machines: Machines, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pool_module, "_FAILED_SECONDS", 0.1)
    machines.error = KeyError("ours")
    async with kept(machines) as pool:
        pool.want(1, somebody_came=True)
        await until(lambda: machines.tries > 1)
        machines.error = None
        await until(lambda: len(machines.alive()) == 1)
    assert "KeyError" in caplog.text


async def test_a_host_that_cannot_be_asked_for_its_memory_is_asked_again_later(
    machines: Machines, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pool_module, "_FAILED_SECONDS", 0.1)
    async with kept(machines) as pool:
        pool.want(1, somebody_came=True)
        await until(lambda: len(machines.alive()) == 1)

        def fail() -> int:
            raise OSError("no more files")

        pool.spare_mib = fail
        await until(lambda: "no more files" in caplog.text)
        await several_ticks()
        assert caplog.text.count("machines cannot be kept ready") < 20
        machines.begun[0].die()  # and one that cannot be ended now is not looked at all the time
        await several_ticks()
        assert caplog.text.count("machines cannot be kept ready") < 20
        pool.spare_mib = lambda: _PLENTY_MIB
        await until(lambda: len(machines.alive()) == 1)


async def test_one_that_is_given_back_when_all_is_over_is_ended(machines: Machines) -> None:
    async with kept(machines) as pool:
        pool.want(1, somebody_came=True)
        await until(lambda: len(machines.alive()) == 1)
        taken = pool.take(DEBIAN)
        assert taken is not None
        pool.want(0, somebody_came=False)
        taken_machine = machines.begun[0]
        machines.begun.remove(taken_machine)  # it is not the pool's to end
    assert not taken_machine.ended
    await pool.give_back(taken)
    assert taken_machine.ended


async def test_a_rest_does_not_wait_for_one_that_takes_its_time(machines: Machines) -> None:
    machines.held = True
    async with kept(machines) as pool:
        pool.want(1, somebody_came=True)
        await until(lambda: machines.tries == 1)
        await pool.rest()
        machines.held = False
        await several_ticks()
        assert machines.begun == []
        pool.want(1, somebody_came=True)
        await until(lambda: len(machines.alive()) == 1)


async def test_one_that_takes_its_time_is_given_up_when_nobody_is_there(machines: Machines) -> None:
    machines.held = True
    async with kept(machines) as pool:
        pool.want(1, somebody_came=True)
        await until(lambda: machines.tries == 1)
        machines.held = False
        pool.want(0, somebody_came=False)
        pool.want(1, somebody_came=True)
        await until(lambda: len(machines.alive()) == 1)
        assert machines.tries == 2
