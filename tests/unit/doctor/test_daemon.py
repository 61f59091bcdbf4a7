import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace

import pytest

from pyro_mcp import __version__
from pyro_mcp.config import Settings
from pyro_mcp.daemon.client import DaemonClient
from pyro_mcp.daemon.place import DaemonPlace
from pyro_mcp.doctor import daemon
from pyro_mcp.doctor.report import Report, Status
from pyro_mcp.models import DaemonHello, ReadyMachine
from tests.support.daemons import daemon_pid, daemons_of


async def test_one_is_started_and_stopped_where_none_runs(settings: Settings) -> None:
    row = await daemon.examine(settings)
    assert row.status is Status.PASS, row
    assert "stopped again" in row.found
    assert daemons_of(settings.home) == []


async def test_one_that_runs_is_told_and_left_running(settings: Settings, daemon_client: DaemonClient) -> None:
    pid = daemon_pid(settings)
    row = await daemon.examine(settings)
    assert row.status is Status.PASS
    assert f"process {pid}" in row.found
    assert daemons_of(settings.home) == [pid]


async def test_one_with_other_settings_is_told_and_left_running(
    settings: Settings, daemon_client: DaemonClient
) -> None:
    pid = daemon_pid(settings)
    row = await daemon.examine(replace(settings, vmm="qemu"))
    assert row.status is Status.WARN
    assert row.found.endswith(", but it has vmm='auto' where this command has 'qemu'")
    assert daemons_of(settings.home) == [pid]


def test_a_busy_one_of_another_version_is_to_be_waited_for(settings: Settings) -> None:
    busy = daemon.row_for(DaemonHello("0.0.1", settings.describe(), 7, 2), settings)
    assert busy.status is Status.WARN
    assert "pyro 0.0.1" in busy.found
    assert busy.found.endswith(f", but this is pyro {__version__}")
    assert "wait" in (busy.mend or "")
    idle = daemon.row_for(DaemonHello("0.0.1", settings.describe(), 7, 0), settings)
    assert "replaces it" in (idle.mend or "")


@pytest.mark.parametrize(
    ("its", "told"),
    [
        ("home='/a b' speed='7'", "home='/a b' where this command has "),
        ("home='/a b' speed='7'", "speed='7' where this command has nothing"),
        ("", "vmm=nothing where this command has 'auto'"),
    ],
)
def test_settings_of_another_version_are_compared_by_name(settings: Settings, its: str, told: str) -> None:
    found = daemon.row_for(DaemonHello("0.0.1", its, 7, 0), settings).found
    assert f", but this is pyro {__version__}; it has " in found
    assert told in found


def test_machines_that_are_ready_are_told_with_what_they_take(settings: Settings) -> None:
    hello = DaemonHello(__version__, settings.describe(), 7, 0)
    one = ReadyMachine("debian:12", "qemu", 1, 1024, 85 << 20)
    row = daemon.row_for(hello, settings, (one,))
    assert row.status is Status.PASS
    first, second = row.found.splitlines()
    assert first == daemon.row_for(hello, settings).found
    assert second.startswith("1 machine is ready for the next workspace of a chat (debian:12), in 85 MiB of memory; ")
    assert "PYRO_POOL=0" in second
    assert Report((row,), 1).to_json()["rows"] == [
        {**asdict(row), "details": ({**asdict(one), "host_memory_bytes": 85 << 20},)}
    ]
    unknown = daemon.row_for(hello, settings, (one, replace(one, host_memory_bytes=None)))
    assert "2 machines are ready for the next workspace of a chat (debian:12)" in unknown.found
    other = daemon.row_for(DaemonHello("0.0.1", settings.describe(), 7, 2), settings, (one,))
    assert (other.status, other.details) == (Status.WARN, (one,))


async def test_a_home_that_cannot_be_used(settings: Settings) -> None:
    settings.home.touch()
    row = await daemon.examine(settings)
    assert row.status is Status.FAIL
    assert "PYRO_HOME" in (row.mend or "")


@contextmanager
def answering(settings: Settings, answer: bytes) -> Iterator[None]:
    """Somebody at the daemon's socket who gives this answer to one request."""
    place = DaemonPlace(settings.home)
    place.prepare()
    with place.listen() as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


@pytest.mark.parametrize(
    "answer",
    [b"", b"rubbish\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nnot json", b"HTTP/1.1 200 OK\r\n\r\n{}"],
    ids=["nothing", "no HTTP", "no JSON", "no hello"],
)
async def test_one_that_does_not_answer_as_it_should(settings: Settings, answer: bytes) -> None:
    with answering(settings, answer):
        row = await daemon.examine(settings)
    assert row.status is Status.FAIL
    assert "does not answer as it should" in row.found
