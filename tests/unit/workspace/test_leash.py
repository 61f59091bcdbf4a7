"""What holds a VMM that must not outlive the daemon; the VMM is a process that does nothing."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pyro_mcp.process import Detached, spawn_detached
from pyro_mcp.process_watch import wait_for_end
from pyro_mcp.start_gate import behind
from pyro_mcp.workspace.leash import Leash
from tests.support.descriptors import none_left
from tests.support.fake_kept import kill, runs

_HOLD = """
import sys
from pyro_mcp.process import Detached
from pyro_mcp.workspace.leash import Leash
leash = Leash(Detached(int(sys.argv[1]), int(sys.argv[2])))
print("holds", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def vmm() -> Iterator[Detached]:
    nothing = os.open(os.devnull, os.O_WRONLY)
    process = spawn_detached(
        behind(["sleep", "1000"]),
        env={"PATH": os.defpath},
        pass_fds=(),
        output=nothing,
        limits={},
        before_start=lambda _: None,
    )
    os.close(nothing)
    yield process
    kill(process)


async def test_a_vmm_that_is_let_go_lives_on(vmm: Detached) -> None:
    with none_left():
        leash = Leash(vmm)
        await leash.let_go()
        await leash.let_go()
    assert not wait_for_end(vmm.pid, 0.1)


async def test_one_that_somebody_kills_is_lost(vmm: Detached) -> None:
    leash = Leash(vmm)
    assert leash._keeper is not None
    os.kill(leash._keeper.pid, signal.SIGKILL)
    await leash.lost()
    assert not leash.holds
    await leash.let_go()
    assert runs(vmm)


def held(vmm: Detached) -> "subprocess.Popen[bytes]":
    """Another process that holds it."""
    words = [sys.executable, "-c", _HOLD, str(vmm.pid), str(vmm.start_time)]
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"holds\n"
    return holder


def test_a_vmm_ends_with_a_holder_that_is_killed(vmm: Detached) -> None:
    with held(vmm) as holder:
        assert runs(vmm)
        holder.kill()
    assert wait_for_end(vmm.pid, 30)


def test_another_process_with_the_pid_of_the_vmm_is_left_alone(vmm: Detached) -> None:
    with held(vmm) as holder, held(Detached(vmm.pid, vmm.start_time + 1)) as other:
        other.kill()
        other.wait()
        assert not wait_for_end(vmm.pid, 0.3)
        holder.kill()
    assert wait_for_end(vmm.pid, 30)
