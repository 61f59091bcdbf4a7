"""No machine that is no workspace's outlives a daemon that is killed, whatever that was about; the guests are fake."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyro_mcp.process import Detached
from pyro_mcp.process_watch import wait_for_end
from pyro_mcp.workspace.places import Places
from tests.support.fake_kept import Engine, kill, runs

# Says how its machine is called, and what holds that, as soon as it is as far as it was told to get.
_DAEMON = """
import asyncio, sys
from pathlib import Path
from pyro_mcp.images.store import Store
from pyro_mcp.workspace import create
from pyro_mcp.workspace_models import CreateWorkspace
from tests.support.fake_kept import Boots, Engine
from tests.support.waiting import until

DEBIAN = CreateWorkspace("debian:12")

async def nobody(progress):
    pass

async def tell(vmm, keeper=0):
    print(vmm.pid, vmm.start_time, keeper, flush=True)
    await asyncio.Event().wait()

async def is_ready(w):
    w.pool.want(1, True)
    await until(lambda: len(w.pool._ready) == 1)
    return w.pool._ready[0]

async def waits(w, boots):
    machine = await is_ready(w)
    await tell(machine.machine.process, machine._leash._keeper.pid)

async def claims(w, boots):
    machine = await is_ready(w)
    create._furnish = lambda *_: tell(machine.machine.process)
    await w.create(DEBIAN, nobody)

async def creates(w, boots):
    boots.mute = 1
    creating = asyncio.create_task(w.create(DEBIAN, nobody))
    await until(lambda: boots.guests and boots.guests[0].sessions)
    await tell(boots.guests[0].process)

async def starts(w, boots):
    workspace = (await w.create(DEBIAN, nobody)).workspace_id
    await w.stop(workspace)
    boots.mute = 1
    starting = asyncio.create_task(w.start(workspace))
    await until(lambda: len(boots.guests) == 2 and boots.guests[1].sessions)
    await tell(boots.guests[1].process)

async def has(w, boots):
    await w.create(DEBIAN, nobody)
    await tell(boots.guests[0].process)

async def live():
    folder, does = Path(sys.argv[1]), globals()[sys.argv[2]]
    boots = Boots(folder / "guests")
    async with Engine(folder / "home", Store(folder / "cache"), boots, templates=True).open() as w:
        await does(w, boots)

asyncio.run(live())
"""


@contextmanager
def daemon(engine: Engine, does: str) -> Iterator[tuple["subprocess.Popen[bytes]", Detached, int]]:
    """One that does that, with its VMM and what that is held by."""
    words = [sys.executable, "-c", _DAEMON, str(engine.home.parent), does]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as process:
        assert process.stdout is not None
        pid, start_time, keeper = map(int, process.stdout.readline().split())
        vmm = Detached(pid, start_time)
        try:
            yield process, vmm, keeper
        finally:
            process.kill()
            kill(vmm)


@pytest.mark.parametrize("does", ["waits", "claims", "creates", "starts"])
async def test_a_machine_that_is_no_running_workspaces_ends_with_it(engine: Engine, does: str) -> None:
    with daemon(engine, does) as (process, vmm, _):
        assert runs(vmm)
        process.kill()
        assert wait_for_end(vmm.pid, 30)
    async with engine.open() as workspaces:
        left = workspaces.list(deleted=False)
        assert [each.state for each in left] == (["stopped"] if does == "starts" else [])
        assert Places(engine.home).ids() == {each.workspace_id for each in left}


async def test_a_running_workspaces_lives_on(engine: Engine) -> None:
    with daemon(engine, "has") as (process, vmm, _):
        process.kill()
        process.wait()
        assert not wait_for_end(vmm.pid, 0.3)


async def test_the_next_one_ends_a_machine_whose_leash_was_killed_too(engine: Engine) -> None:
    with daemon(engine, "waits") as (process, vmm, leash):
        process.send_signal(signal.SIGSTOP)  # it must not see that
        os.kill(leash, signal.SIGKILL)
        process.kill()
        process.wait()
        assert not wait_for_end(vmm.pid, 0.1)
        async with engine.open():
            assert not runs(vmm)
            assert Places(engine.home).ids() == set()
