"""What QEMU is told over its monitor, with QEMU itself and with something else in its place."""

import asyncio
import json
import os
import shutil
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from pyro_mcp.errors import GuestFailed
from pyro_mcp.process import Process, spawn
from pyro_mcp.vmm import qemu_monitor
from pyro_mcp.vmm.qemu import PROGRAM
from pyro_mcp.vmm.qemu_monitor import save_state
from pyro_mcp.vmm.qemu_orders import IGNORE_SHARED, restore_orders
from tests.support.descriptors import none_left
from tests.support.fake_qemu import STATE, Monitor


@pytest.fixture
def state() -> Iterator[int]:
    """Where it is written to. No descriptor is left."""
    with none_left():
        fd = os.memfd_create("state")
        yield fd
        os.close(fd)


@contextmanager
def monitor(answers: dict[str, list[Any]] | None = None) -> Iterator[tuple[socket.socket, Monitor]]:
    """Our end, and what is at the other one."""
    ours, theirs = socket.socketpair()
    fake = Monitor(theirs, answers)
    serving = threading.Thread(target=fake.serve)
    serving.start()
    try:
        with ours:
            yield ours, fake
    finally:
        serving.join(30)
        theirs.close()


async def test_the_state_is_written_to_the_descriptor(state: int) -> None:
    with monitor() as (ours, fake):
        await save_state(ours, state)
    assert os.pread(state, 1000, 0) == STATE
    assert [name for name, _ in fake.asked] == [
        "qmp_capabilities",
        "migrate-set-capabilities",
        "getfd",
        "migrate",
        "query-migrate",
    ]
    assert fake.asked[1][1] == IGNORE_SHARED


async def test_it_is_waited_for(state: int) -> None:
    turns = [{"status": "setup"}, {"status": "active"}, {}, {"status": "completed"}]
    with monitor({"query-migrate": turns}) as (ours, fake):
        await save_state(ours, state)
    assert [name for name, _ in fake.asked].count("query-migrate") == 4


async def _refused(ours: socket.socket, state: int) -> str:
    """The message of the only error that there may be."""
    with pytest.raises(GuestFailed) as caught:
        await save_state(ours, state)
    assert caught.value.code == "no_template"
    assert caught.value.hint == "run `pyro doctor`"
    return caught.value.message


@pytest.mark.parametrize("status", ["failed", "cancelled"])
async def test_one_that_fails_is_told(state: int, status: str) -> None:
    with monitor({"query-migrate": [{"status": "active"}, {"status": status}]}) as (ours, _):
        assert f"the migration {status}" in await _refused(ours, state)


@pytest.mark.parametrize("command", ["migrate-set-capabilities", "getfd", "migrate", "query-migrate"])
async def test_a_refusal_comes_with_qemus_own_words(state: int, command: str) -> None:
    with monitor({command: [{"class": "GenericError", "desc": "not this one"}]}) as (ours, _):
        assert "not this one" in await _refused(ours, state)


@pytest.mark.parametrize("command", ["qmp_capabilities", "migrate", "query-migrate"])
async def test_one_that_is_silent_is_given_up(state: int, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu_monitor, "_SAVE_SECONDS", 0.2)
    with monitor({command: [None]}) as (ours, _):
        assert "TimeoutError" in await _refused(ours, state)


@pytest.mark.parametrize("said", [b"", b"rubbish\r\n", b'{"no": "greeting"}\r\n', b"[]\r\n", b"{" * 100_000])
async def test_what_is_no_monitor_is_told(state: int, said: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(said)
        theirs.shutdown(socket.SHUT_WR)
        assert await _refused(ours, state)


async def test_giving_up_leaves_no_task(state: int) -> None:
    before = asyncio.all_tasks()
    with monitor({"migrate": [None]}) as (ours, fake):
        saving = asyncio.create_task(save_state(ours, state))
        async with asyncio.timeout(30):
            while "migrate" not in [name for name, _ in fake.asked]:  # noqa: ASYNC110  (a thread asks nobody)
                await asyncio.sleep(0.005)
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
        assert asyncio.all_tasks() == before


# With QEMU itself, and a machine that has nothing


@asynccontextmanager
async def _qemu(*words: str, fds: tuple[int, ...] = ()) -> AsyncIterator[tuple[Process, socket.socket]]:
    """A QEMU with a monitor, and our end of that."""
    program = shutil.which(PROGRAM)
    if program is None:
        pytest.skip("QEMU is not installed")
    ours, theirs = socket.socketpair()
    told = (f"socket,id=monitor,fd={theirs.fileno()}", "-mon", "chardev=monitor,mode=control")
    argv = [program, "-M", "none", "-nodefaults", "-no-user-config", "-display", "none", "-chardev", *told, *words]
    with ours:
        with theirs:
            process = spawn(argv, pass_fds=(theirs.fileno(), *fds))
        try:
            yield process, ours
        finally:
            await process.stop()


async def test_qemu_writes_down_a_machine_and_goes_on_with_it_where_it_is_ordered_to(state: int) -> None:
    async with asyncio.timeout(60):
        async with _qemu() as (_, ours):
            await save_state(ours, state)
        assert os.pread(state, 4, 0) == b"QEVM"
        os.lseek(state, 0, os.SEEK_SET)
        async with _qemu("-incoming", "defer", fds=(state,)) as (_, ours):
            # As the driver does it: nobody has read a word yet.
            ours.sendall(restore_orders(state))
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            said = [json.loads(await reader.readline())]
            while said[-1].get("event") != "RESUME":
                said.append(json.loads(await reader.readline()))
            writer.transport.abort()
    assert not [answer for answer in said if "error" in answer]
    assert [answer for answer in said if "return" in answer] == [{"return": {}}] * 3


async def test_qemu_that_cannot_write_says_so(state: int) -> None:
    read_only = os.open(f"/proc/self/fd/{state}", os.O_RDONLY)
    try:
        async with asyncio.timeout(60), _qemu() as (_, ours):
            assert "the migration failed" in await _refused(ours, read_only)
    finally:
        os.close(read_only)
