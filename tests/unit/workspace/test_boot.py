"""A guest that does not answer is tried once more, and then told of with its last words."""

import asyncio
import errno
import os
from pathlib import Path

import pytest

from pyro_mcp.errors import GuestFailed, HostUnfit
from pyro_mcp.images import no_seed
from pyro_mcp.vmm.machine import MachineSpec
from pyro_mcp.workspace import boot
from pyro_mcp.workspace.boot import boot_guest
from pyro_mcp.workspace.host import Host
from tests.support.fake_agent import AgentStream
from tests.support.fake_machine import Boots, FakeDriver, answering, dead, fake_host, silent

pytestmark = pytest.mark.usefixtures("disks")


async def _pong(stream: AgentStream) -> None:
    await stream.request()
    await stream.say(type="pong")


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot, "_READY_SECONDS", 5.0)
    monkeypatch.setattr(boot, "_LAST_READY_SECONDS", 5.0)


async def test_a_guest_that_answers(tmp_path: Path, image: Path, disks: list[int]) -> None:
    boots = Boots(guests=[answering(_pong)])
    async with boot_guest(fake_host(tmp_path, boots), image, vcpu_count=3, mem_mib=512) as guest:
        await guest.client.ping()
        assert guest.vmm == "fake"
        assert guest.boot_ms >= 0
        assert boots.alive == 1
        assert boots.specs == [
            MachineSpec(Path("/k"), Path("/i"), Path("/m"), image, disks[0], 3, 512, seed=no_seed.path(tmp_path))
        ]
    assert boots.alive == 0
    assert boots.with_console == [False]


async def test_a_guest_that_hangs_is_tried_once_more_with_its_console(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(boot, "_READY_SECONDS", 0.05)
    boots = Boots(guests=[silent, answering(_pong)])
    async with boot_guest(fake_host(tmp_path, boots), image, vcpu_count=1, mem_mib=512) as guest:
        await guest.client.ping()
        assert boots.alive == 1
        assert guest.boot_ms >= 50
    assert boots.with_console == [False, True]
    assert boots.alive == 0
    assert "trying once more" in caplog.text


def test_a_machine_that_a_limit_of_the_daemons_keeps_from_starting() -> None:
    hints = {code: boot.not_started(OSError(code, os.strerror(code))).hint for code in (errno.EMFILE, errno.EPERM)}
    assert "`ulimit -n`" in str(hints[errno.EMFILE])
    assert hints[errno.EPERM] == "pyro doctor"


@pytest.mark.parametrize("guest", [silent, dead])
async def test_a_guest_that_never_answers_is_told_with_its_last_words(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch, guest: object
) -> None:
    monkeypatch.setattr(boot, "_READY_SECONDS", 0.05)
    monkeypatch.setattr(boot, "_LAST_READY_SECONDS", 0.05)
    boots = Boots(guests=[guest])  # type: ignore[list-item]
    said = "\n".join(["early", *(f"line {number}" for number in range(12)), "", "Kernel \x1b]0;panic\x07\r"])
    with pytest.raises(GuestFailed) as caught:
        await _boot_and_leave(fake_host(tmp_path, boots, said=said), image)
    assert len(boots.specs) == 2
    assert boots.alive == 0
    assert caught.value.code == ("guest_silent" if guest is silent else "guest_gone")
    assert "  | Kernel \ufffd]0;panic\ufffd" in caught.value.message
    assert "early" not in caught.value.message
    assert caught.value.message.count("  | ") == 12
    assert caught.value.hint


async def _boot_and_leave(host: Host, image: Path) -> None:
    async with boot_guest(host, image, vcpu_count=1, mem_mib=512):
        pass


async def test_a_guest_without_last_words_is_told_without(tmp_path: Path, image: Path) -> None:
    with pytest.raises(GuestFailed) as caught:
        await _boot_and_leave(fake_host(tmp_path, Boots(guests=[dead])), image)
    assert "last words" not in caught.value.message


async def test_a_host_that_cannot_boot_is_not_tried_twice(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def refuse(_driver: FakeDriver, _spec: MachineSpec) -> None:
        tries.append(True)
        raise HostUnfit("no_vmm", "there is no VMM")

    monkeypatch.setattr(FakeDriver, "boot", refuse)
    with pytest.raises(HostUnfit):
        await _boot_and_leave(fake_host(tmp_path, Boots()), image)
    assert tries == [True]


async def test_no_more_machines_boot_at_once_than_there_are_slots(tmp_path: Path, image: Path) -> None:
    booting = 0
    most = 0

    async def slow(end: object) -> None:
        nonlocal booting, most
        booting += 1
        most = max(most, booting)
        await asyncio.sleep(0.02)
        booting -= 1
        await answering(_pong)(end)  # type: ignore[arg-type]

    boots = Boots(guests=[slow])
    host = fake_host(tmp_path, boots, slots=2)
    together = asyncio.Barrier(6)

    async def one() -> None:
        async with boot_guest(host, image, vcpu_count=1, mem_mib=512):
            await together.wait()  # a slot is only for booting, not for the machine's whole life

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(6):
            group.create_task(one())
    assert most == 2
    assert boots.most_alive == 6


@pytest.mark.parametrize("moment", ["booting", "running"])
async def test_cancelling_leaves_nothing(tmp_path: Path, image: Path, moment: str) -> None:
    boots = Boots(guests=[silent if moment == "booting" else answering(_pong)])
    up = asyncio.Event()

    async def run() -> None:
        async with boot_guest(fake_host(tmp_path, boots), image, vcpu_count=1, mem_mib=512):
            up.set()
            await asyncio.sleep(1000)

    running = asyncio.create_task(run())
    if moment == "running":
        await up.wait()
    else:
        await asyncio.sleep(0.05)
    assert boots.alive == 1
    running.cancel()
    await asyncio.wait((running,))
    assert running.cancelled()
    assert boots.alive == 0
    assert len(boots.specs) == 1
