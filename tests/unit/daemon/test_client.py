"""Clients find the daemon or start it, whatever state its place is in; real daemons, no guests."""

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from pyro_mcp import __version__
from pyro_mcp.config import Settings
from pyro_mcp.daemon.client import DaemonClient
from pyro_mcp.daemon.http import Connection
from pyro_mcp.daemon.place import DaemonPlace
from pyro_mcp.errors import Conflict, HostUnfit, InvalidRequest, NotFound
from pyro_mcp.images.catalog import CATALOG
from pyro_mcp.process import start_time, wait_for_end
from tests.support.daemons import daemon_pid, daemons_of, end_daemon
from tests.support.descriptors import opened
from tests.support.old_daemon import hello, http, old_daemon
from tests.support.waiting import wait_until


@contextlib.contextmanager
def request_under_way(settings: Settings) -> Iterator[socket.socket]:
    """A request whose body never ends keeps the daemon busy."""
    with DaemonPlace(settings.home).connect() as connection:
        connection.sendall(b"POST /v1/environments/prune HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        wait_until(lambda: DaemonClient(settings).ask("GET", "/v1/hello")["active"] == 1)
        yield connection


# Starting


def test_something_can_be_done_while_the_daemon_works(daemon_client: DaemonClient) -> None:
    daemon_client.ask("GET", "/v1/hello")
    done: list[str] = []
    answer = daemon_client.ask("GET", "/v1/hello", meanwhile=lambda: done.append("meanwhile"))
    assert (answer["version"], done) == (__version__, ["meanwhile"])
    with pytest.raises(ValueError, match="ours"):  # not taken for something that the daemon did
        daemon_client.ask("GET", "/v1/hello", meanwhile=_fail)
    assert daemon_client.ask("GET", "/v1/hello")["version"] == __version__


def _fail() -> None:
    raise ValueError("ours")


def test_the_first_request_starts_a_daemon_and_the_next_finds_it(
    daemon_client: DaemonClient, settings: Settings
) -> None:
    assert daemons_of(settings.home) == []
    first = daemon_client.ask("GET", "/v1/hello")
    assert (first["version"], first["settings"], first["active"]) == (__version__, settings.describe(), 0)
    assert [info["name"] for info in daemon_client.ask("GET", "/v1/environments")] == [e.name for e in CATALOG]
    assert daemons_of(settings.home) == [first["pid"]]
    with pytest.raises(NotFound) as caught:
        daemon_client.ask("GET", "/v1/environments/debian-12")
    assert caught.value.code == "unknown_environment"
    assert "debian:12" in (caught.value.hint or "")
    _looks_private(settings.home)
    _is_nobodys_child(first["pid"])
    assert DaemonClient(settings).stop() is True
    assert wait_for_end(first["pid"], 30)
    assert not (settings.home / "daemon.sock").exists()
    assert "daemon ends" in (settings.home / "daemon.log").read_text()
    assert DaemonClient(settings).stop() is False


def _looks_private(home: Path) -> None:
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for name in ("daemon.sock", "daemon.lock", "daemon.log"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600, name


def _is_nobodys_child(pid: int) -> None:
    """Chat hosts signal every descendant, and a terminal's hang-up reaches its whole session."""
    assert os.getsid(pid) != os.getsid(0)
    assert os.getpgid(pid) != os.getpgid(0)
    ancestor = pid
    while ancestor > 1:
        ancestor = int(Path(f"/proc/{ancestor}/stat").read_text().rpartition(")")[2].split()[1])
        assert ancestor != os.getpid()


@pytest.mark.parametrize("name", ["daemon.sock", "daemon.lock", "daemon.log"])
def test_a_folder_where_a_file_belongs_is_named(daemon_client: DaemonClient, settings: Settings, name: str) -> None:
    (settings.home / name).mkdir(parents=True)
    with pytest.raises(HostUnfit) as caught:
        daemon_client.ask("GET", "/v1/hello")
    assert caught.value.code == "home_unusable"
    assert str(settings.home / name) in caught.value.message
    assert daemons_of(settings.home) == []


def test_a_daemon_gets_every_proxy(
    daemon_client: DaemonClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{scheme}_proxy" for scheme in ("http", "https", "ftp", "all", "no")]
    wanted = {name: f"{name}.invalid" for lower in names for name in (lower, lower.upper())}
    for name, value in wanted.items():
        monkeypatch.setenv(name, value)
    environment = Path(f"/proc/{daemon_pid(settings)}/environ").read_text().split("\0")
    assert {f"{name}={value}" for name, value in wanted.items()} <= set(environment)


def test_many_clients_at_once_start_one_daemon(daemon_client: DaemonClient, settings: Settings) -> None:
    together = threading.Barrier(8)

    def first_request(_number: int) -> int:
        together.wait(30)
        return daemon_pid(settings)

    with ThreadPoolExecutor(8) as clients:
        pids = set(clients.map(first_request, range(8)))
    assert len(pids) == 1
    assert daemons_of(settings.home) == list(pids)


def test_a_daemon_outlives_the_client_that_started_it(daemon_client: DaemonClient, settings: Settings) -> None:
    script = (
        "import os, signal\n"
        "from pyro_mcp.config import Settings\n"
        "from pyro_mcp.daemon.client import DaemonClient\n"
        "print(DaemonClient(Settings.from_environment()).ask('GET', '/v1/hello')['pid'], flush=True)\n"
        "os.killpg(0, signal.SIGKILL)\n"
    )
    started = subprocess.run([sys.executable, "-c", script], capture_output=True, start_new_session=True, check=False)
    assert started.returncode == -signal.SIGKILL
    assert daemon_pid(settings) == int(started.stdout)


def test_the_daemon_holds_nothing_of_the_client(
    daemon_client: DaemonClient, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its secrets nor its folder nor its open files."""
    monkeypatch.setenv("CLIENT_SECRET", "do not tell")
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "open").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        pid = daemon_pid(settings)
    proc = Path(f"/proc/{pid}")
    assert b"CLIENT_SECRET" not in (proc / "environ").read_bytes()
    assert os.readlink(proc / "cwd") == "/"
    assert str(tmp_path / "open") not in opened(pid).values()
    assert os.readlink(proc / "fd" / "0") == "/dev/null"
    assert os.readlink(proc / "fd" / "1") == os.readlink(proc / "fd" / "2") == str(settings.home / "daemon.log")


def test_a_place_with_a_very_long_path(tmp_path: Path) -> None:
    deep = tmp_path / "/".join(["x" * 60] * 4)
    settings = Settings(deep, tmp_path / "cache", None, "auto")
    assert len(str(deep / "daemon.sock")) > 107
    try:
        pid = daemon_pid(settings)
        assert daemons_of(deep) == [pid]
    finally:
        end_daemon(settings)


def test_a_place_whose_name_is_not_utf8(tmp_path: Path) -> None:
    settings = Settings(tmp_path / os.fsdecode(b"caf\xe9"), tmp_path / "cache", None, "auto")
    try:
        pid = daemon_pid(settings)
        assert daemons_of(settings.home) == [pid]
    finally:
        end_daemon(settings)


# What may be there already


def test_after_a_daemon_was_killed_the_next_request_starts_another(
    daemon_client: DaemonClient, settings: Settings
) -> None:
    first = daemon_pid(settings)
    os.kill(first, signal.SIGKILL)
    assert wait_for_end(first, 30)
    assert (settings.home / "daemon.sock").exists()
    second = daemon_pid(settings)
    assert second != first
    assert daemons_of(settings.home) == [second]


def test_a_daemon_that_is_told_to_end_by_a_signal_ends_in_order(
    daemon_client: DaemonClient, settings: Settings
) -> None:
    pid = daemon_pid(settings)
    os.kill(pid, signal.SIGTERM)
    assert wait_for_end(pid, 30)
    assert not (settings.home / "daemon.sock").exists()


def test_a_stale_socket_is_no_obstacle(daemon_client: DaemonClient, settings: Settings) -> None:
    place = DaemonPlace(settings.home)
    place.prepare()
    place.listen().close()
    assert daemon_pid(settings) in daemons_of(settings.home)


def test_an_idle_daemon_of_other_settings_is_replaced(daemon_client: DaemonClient, settings: Settings) -> None:
    first = daemon_pid(settings)
    other = replace(settings, vmm="qemu")
    second = daemon_pid(other)
    assert second != first
    assert start_time(first) is None
    assert daemon_pid(other) == second


def test_a_connection_on_which_a_question_failed_takes_its_time_for_the_next_request(
    daemon_client: DaemonClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float | None] = []
    monkeypatch.setattr(Connection, "limit", lambda _connection, seconds: limits.append(seconds))
    with pytest.raises(NotFound):
        daemon_client.ask("GET", "/v1/environments/debian-12")
    assert limits[0] is not None
    assert limits[-1] is None


def test_clients_that_all_replace_the_same_daemon_get_one(daemon_client: DaemonClient, settings: Settings) -> None:
    first = daemon_pid(settings)
    other = replace(settings, vmm="qemu")
    together = threading.Barrier(8)

    def first_request(_number: int) -> int:
        together.wait(30)
        return daemon_pid(other)

    with ThreadPoolExecutor(8) as clients:
        pids = set(clients.map(first_request, range(8)))
    assert len(pids) == 1
    assert first not in pids


def test_a_busy_daemon_of_other_settings_is_left_alone(daemon_client: DaemonClient, settings: Settings) -> None:
    pid = daemon_pid(settings)
    other = DaemonClient(replace(settings, vmm="qemu"))
    with request_under_way(settings):
        with pytest.raises(Conflict) as caught:
            other.ask("GET", "/v1/hello")
        assert caught.value.code == "daemon_busy"
        assert str(settings.home) in caught.value.message
        assert caught.value.hint
        with pytest.raises(Conflict) as refused:
            DaemonClient(settings).stop()
        assert refused.value.code == "daemon_busy"
        assert daemons_of(settings.home) == [pid]
    wait_until(lambda: DaemonClient(settings).ask("GET", "/v1/hello")["active"] == 0)


def test_an_idle_daemon_of_another_version_is_replaced(daemon_client: DaemonClient, settings: Settings) -> None:
    def answer(path: str, _body: bytes) -> bytes | None:
        return hello(settings, version="0.0.1") if path == "/v1/hello" else None

    with old_daemon(settings, answer) as old:
        pid = daemon_pid(settings)
    assert old.asked == ["/v1/hello", "/v1/hello", "/v1/shutdown"]  # the first is what was asked for
    assert daemons_of(settings.home) == [pid]


def test_a_busy_daemon_of_another_version_is_left_alone(settings: Settings) -> None:
    busy = {"kind": "Conflict", "code": "daemon_busy", "message": "busy", "hint": None, "exit_code": 1}

    def answer(path: str, _body: bytes) -> bytes:
        return hello(settings, version="0.0.1", active=1) if path == "/v1/hello" else http(busy, "409 Conflict")

    with old_daemon(settings, answer), pytest.raises(Conflict, match=r"0\.0\.1") as caught:
        DaemonClient(settings).ask("GET", "/v1/environments")
    assert caught.value.code == "daemon_busy"


def test_a_home_of_another_user_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.home.mkdir(parents=True)
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(InvalidRequest, match="another user"):
        DaemonClient(settings).ask("GET", "/v1/hello")
    assert list(settings.home.iterdir()) == []


def test_a_home_that_cannot_be_made_is_told_so(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostUnfit, match="PYRO_HOME"):
        DaemonClient(replace(settings, home=tmp_path / "file" / "deeper")).ask("GET", "/v1/hello")
