"""How QEMU is started, and that nothing is left of a machine however it ends; no guest boots here."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from pyro_mcp.errors import HostUnfit
from pyro_mcp.process import Detached, start_time, wait_for_end
from pyro_mcp.vmm import channel, confine, tsc
from pyro_mcp.vmm.machine import Machine, MachineSpec
from pyro_mcp.vmm.qemu import PROGRAM, QemuDriver
from tests.support.descriptors import none_left
from tests.support.waiting import until


def _stand_in(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program in QEMU's place."""
    program = folder / PROGRAM
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_a_kept_machine_outlives_who_starts_it_and_listens(
    spec: MachineSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = (
        "import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); c = s.accept()[0]; c.sendall(c.recv(5)[::-1])"
    )
    script = (
        'for word; do case "$word" in socket,id=agent,fd=*) fd="${word#*fd=}";; esac; done\n'
        f"env; echo to the console; {sys.executable} -c '{answer}' \"${{fd%%,*}}\"; exec sleep 1000"
    )
    _stand_in(tmp_path, script, monkeypatch)
    monkeypatch.setenv("SECRET", "do not tell")
    recorded: list[Detached] = []
    log = channel.BoundedLog()
    with channel.listening(tmp_path / "agent.sock") as listener:
        process = QemuDriver(confined=False).start_kept(spec, tmp_path, listener, log.fd, recorded.append)
    try:
        assert recorded == [process]
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(str(tmp_path / "agent.sock"))
            client.sendall(b"hello")
            assert client.recv(5) == b"olleh"
        assert "to the console" in log.text()
        assert "SECRET" not in log.text()
    finally:
        os.kill(process.pid, signal.SIGKILL)
        log.close()
    assert wait_for_end(process.pid, 30)


def test_no_kept_machine_without_qemu(spec: MachineSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with channel.listening(tmp_path / "agent.sock") as listener, pytest.raises(HostUnfit):
        QemuDriver().start_kept(spec, tmp_path, listener, 2, lambda _process: None)


async def test_without_qemu_the_host_is_unfit(spec: MachineSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with none_left():
        with pytest.raises(HostUnfit) as caught:
            async with QemuDriver().boot(spec):
                raise AssertionError("there is nothing to boot")
        assert caught.value.code == "no_vmm"
        assert "qemu-system-x86" in (caught.value.hint or "")


async def test_a_program_that_cannot_be_started_leaves_nothing(
    spec: MachineSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stand_in(tmp_path, "", monkeypatch)
    monkeypatch.setattr(confine, "BWRAP", "/no/such/bwrap")
    tsc.host_khz()
    with none_left(), pytest.raises(FileNotFoundError):
        async with QemuDriver().boot(spec):
            raise AssertionError("there is nothing to boot")


async def _booted(spec: MachineSpec, use: "asyncio.Event", then: "asyncio.Event", seen: list[Machine]) -> None:
    async with QemuDriver(confined=False).boot(spec) as machine:
        seen.append(machine)
        use.set()
        await then.wait()


async def test_a_machine_gives_its_channel_and_what_it_says(
    spec: MachineSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Talks back on the descriptor that QEMU would take as the agent's channel.
    answer = "import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); s.sendall(s.recv(5)[::-1])"
    script = (
        'for word; do case "$word" in socket,id=agent,fd=*) fd="${word##*=}";; esac; done\n'
        "echo to the console; echo and as error >&2\n"
        f"{sys.executable} -c '{answer}' $fd\n"
        "exec sleep 1000"
    )
    _stand_in(tmp_path, script, monkeypatch)
    async with QemuDriver(confined=False).boot(spec) as machine:
        assert machine.vmm == "qemu"
        opened = await machine.open_channel()
        opened.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(opened, b"hello")
        async with asyncio.timeout(30):
            assert await loop.sock_recv(opened, 5) == b"olleh"
        assert "to the console\nand as error\n" in machine.console()
        pid = machine.process.pid
        assert start_time(pid) is not None
    assert start_time(pid) is None
    assert opened.fileno() == -1


@pytest.mark.parametrize("stubborn", [True, False])
async def test_a_machine_is_gone_at_the_end_with_everything_it_started(
    spec: MachineSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stubborn: bool
) -> None:
    _stand_in(tmp_path, ("trap '' TERM\n" if stubborn else "") + "echo up; while :; do sleep 0.05; done", monkeypatch)
    tsc.host_khz()
    with none_left():
        async with QemuDriver(confined=False).boot(spec) as machine:
            await until(lambda: "up" in machine.console())
        assert start_time(machine.process.pid) is None


async def test_a_machine_that_dies_is_seen_on_its_channel(
    spec: MachineSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stand_in(tmp_path, "echo qemu: no such device >&2; exit 1", monkeypatch)
    async with QemuDriver(confined=False).boot(spec) as machine:
        opened = await machine.open_channel()
        opened.setblocking(False)
        async with asyncio.timeout(30):
            assert await asyncio.get_running_loop().sock_recv(opened, 1) == b""
        await until(lambda: "no such device" in machine.console())
        assert await machine.process.wait() == 1


async def test_cancelling_takes_the_machine_away(
    spec: MachineSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stand_in(tmp_path, "exec sleep 1000", monkeypatch)
    up, never = asyncio.Event(), asyncio.Event()
    seen: list[Machine] = []
    running = asyncio.create_task(_booted(spec, up, never, seen))
    await up.wait()
    running.cancel()
    await asyncio.wait((running,))
    assert running.cancelled()
    assert start_time(seen[0].process.pid) is None


async def test_nothing_of_the_users_environment_reaches_the_vmm(
    spec: MachineSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "do not tell")
    _stand_in(tmp_path, "env; pwd; ulimit -n; ulimit -c; echo done; exec sleep 1000", monkeypatch)
    async with QemuDriver(confined=False).boot(spec) as machine:
        await until(lambda: "done" in machine.console())
        said = machine.console()
    assert "SECRET" not in said
    assert said.splitlines()[-4:] == ["/", "256", "0", "done"]
