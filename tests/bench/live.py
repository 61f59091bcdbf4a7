"""A live guest: a command's round trip, and how fast its output gets out."""

import asyncio
import socket
import time
from pathlib import Path

from pyro_mcp.config import Settings
from pyro_mcp.daemon.client import DaemonClient
from pyro_mcp.errors import GuestFailed
from pyro_mcp.events import OutputChunk
from pyro_mcp.guest.client import GuestClient
from pyro_mcp.guest.messages import Exec, Exited
from pyro_mcp.models import RunFinished, RunRequest, RunStarted
from pyro_mcp.sdk import Pyro
from pyro_mcp.workspace.boot import Guest
from tests.bench.bare import BareMachine
from tests.bench.report import Ratio

_EXECS = 40  # round trips in one round
_ROUNDS = 7
FLOOD_BYTES = 256 << 20


async def exec_round_trip(guest: Guest, bare: BareMachine) -> Ratio:
    """`true` over the guest protocol against a fork, exec and wait that answer one byte over the bare channel."""
    ours, theirs = [], []
    with bare.started("exec") as (_, channel):
        _round_trips(channel, 1)  # the machine has booted when this returns
        for _ in range(_ROUNDS):
            ours.append(await exec_seconds(guest.client))
            theirs.append(await asyncio.to_thread(_round_trips, channel, _EXECS))
    return Ratio("exec of true / bare channel exec", tuple(ours), tuple(theirs), 3.0)


async def exec_seconds(guest: GuestClient) -> float:
    """Seconds that one exec of `true` takes over the guest protocol, as the mean of some."""
    began = time.perf_counter()
    for _ in range(_EXECS):
        async with guest.exec(Exec(argv=("/bin/true",))) as command:
            *_, end = [event async for event in command.events()]
            if not isinstance(end, Exited) or end.exit_code != 0:
                raise GuestFailed("bench", f"true ended with {end}")
    return (time.perf_counter() - began) / _EXECS


def _round_trips(channel: socket.socket, count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        channel.sendall(b"x")
        if channel.recv(1) == b"":
            raise ConnectionError("the bare machine ended")
    return (time.perf_counter() - began) / count


def throughput(bare: BareMachine, settings: Settings) -> tuple[list[Ratio], str]:
    """256 MiB of a command's output to a program that uses the SDK, against the bare channel; and the daemon's memory.

    Ours is from the command's start to its end through guest protocol, daemon and SDK, the machine's boot left out.
    The yardstick is the same command writing straight into the channel. The other row, for information, is a loop that
    writes one warm buffer into the channel: no command reaches that, as a pipe between two processes in a guest that is
    emulated costs more than twice as much.
    """
    ours, theirs, loop = [], [], []
    pid = DaemonClient(settings).ask("GET", "/v1/hello")["pid"]
    _flood(settings)
    before = _peak_kib(pid)
    with bare.started("stdout") as (_, command), bare.started("flood") as (_, channel):
        _drain(command, 1)
        _drain(channel, 1)
        for _ in range(_ROUNDS):
            ours.append(_flood(settings))
            theirs.append(_drain(command, FLOOD_BYTES))
            loop.append(_drain(channel, FLOOD_BYTES))
    after = _peak_kib(pid)
    memory = f"daemon peak memory: {before} KiB after one flood of 256 MiB, {after} KiB after {_ROUNDS + 1}"
    ratios = [
        Ratio("256 MiB of stdout / same command, bare channel", tuple(ours), tuple(theirs), 2.0),
        Ratio("256 MiB of stdout / a loop into the channel", tuple(ours), tuple(loop), None),
    ]
    return ratios, memory


def _flood(settings: Settings) -> float:
    request = RunRequest("debian:12", ("head", "-c", str(FLOOD_BYTES), "/dev/zero"), timeout_seconds=120)
    began, received = 0.0, 0
    with Pyro(settings).stream_in_vm(request) as run:
        for event in run:
            if isinstance(event, RunStarted):
                began = time.perf_counter()
            elif isinstance(event, OutputChunk):
                received += len(event.data)
            elif isinstance(event, RunFinished):
                # The end is told when the machine is gone, which its memory's release makes longer.
                assert (event.exit_code, received) == (0, FLOOD_BYTES), event
    return time.perf_counter() - began


def _drain(channel: socket.socket, count: int) -> float:
    buffer = bytearray(256 * 1024)
    began = time.perf_counter()
    channel.sendall(count.to_bytes(8, "big"))
    left = count
    while left:
        received = channel.recv_into(buffer)
        if received == 0:
            raise ConnectionError("the bare machine ended")
        left -= received
    return time.perf_counter() - began


def _peak_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])
