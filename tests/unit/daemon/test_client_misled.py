"""Clients whose daemon does not start, does not stay, or answers what makes no sense."""

import contextlib
import os
import sys

import pytest

from pyro_mcp import __version__
from pyro_mcp.config import Settings
from pyro_mcp.daemon import client as client_module
from pyro_mcp.daemon.client import DaemonClient
from pyro_mcp.daemon.place import DaemonPlace
from pyro_mcp.errors import DaemonFailed
from tests.support.old_daemon import hello, http, old_daemon


def test_a_daemon_that_cannot_start_is_told_with_its_log(
    daemon_client: DaemonClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(DaemonFailed) as caught:
        daemon_client.ask("GET", "/v1/hello")
    assert caught.value.code == "daemon_failed"
    assert "daemon.log" in (caught.value.hint or "")


def test_a_daemon_that_dies_at_once_is_not_tried_for_ever(
    daemon_client: DaemonClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(DaemonFailed, match="does not stay up") as caught:
        daemon_client.ask("GET", "/v1/hello")
    assert "daemon.log" in (caught.value.hint or "")


def test_a_lock_that_is_held_with_nobody_listening_is_given_up(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_START_SECONDS", 0.1)
    place = DaemonPlace(settings.home)
    place.prepare()
    lock = client_module._try_lock(place)
    assert lock is not None
    with pytest.raises(DaemonFailed) as caught:
        DaemonClient(settings).ask("GET", "/v1/hello")
    assert caught.value.code == "daemon_hung"
    os.close(lock)


def test_a_daemon_that_does_not_end_when_told_is_told(settings: Settings) -> None:
    with old_daemon(settings, lambda _path, _body: http({})), pytest.raises(DaemonFailed) as caught:
        DaemonClient(settings).stop(wait_seconds=0.05)
    assert caught.value.code == "daemon_hung"


NOT_HTTP = b"SSH-2.0-OpenSSH_9.2\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", "daemon_gone"),
        (NOT_HTTP, "daemon_gone"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "daemon_gone"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{{{", "daemon_gone"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\nOops", "daemon_protocol"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}", "daemon_protocol"),
        (http({"kind": "NotFound", "code": "c"}, "404 Not Found"), "daemon_protocol"),
    ],
    ids=lambda part: repr(part[:30]),
)
def test_answers_that_make_no_sense(settings: Settings, answer: bytes, code: str) -> None:
    def reply(path: str, _body: bytes) -> bytes:
        return hello(settings, version=__version__) if path == "/v1/hello" else answer

    with (
        old_daemon(settings, reply),
        contextlib.closing(DaemonClient(settings)) as client,
        pytest.raises(DaemonFailed) as caught,
    ):
        client.ask("GET", "/v1/environments")
    assert caught.value.code == code
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("answer", [b"", NOT_HTTP, http({}), http([]), http({"version": 1}), http("x", "500 Oops")])
def test_a_hello_that_makes_no_sense(settings: Settings, answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("_START_SECONDS", "_GREETING_SECONDS"):
        monkeypatch.setattr(client_module, limit, 0.1)
    with old_daemon(settings, lambda _path, _body: answer), pytest.raises(DaemonFailed):
        DaemonClient(settings).ask("GET", "/v1/environments")


STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def _read_through(settings: Settings) -> None:
    with contextlib.closing(DaemonClient(settings).stream("/v1/runs", {})) as events:
        for _ in events:
            pass


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", "daemon_gone"),
        (STREAM + b"5\r\n\x01\x00\x00", "daemon_gone"),
        (STREAM + b"5\r\n\x01\x00\x00\x00\x05\r\n0\r\n\r\n", "daemon_gone"),
        (STREAM + b"zzz\r\n", "daemon_gone"),
        (STREAM + b"5\r\n\x09\x00\x00\x00\x00\r\n0\r\n\r\n", "daemon_protocol"),
        (STREAM + b"5\r\n\x01\xff\xff\xff\xff\r\n0\r\n\r\n", "daemon_protocol"),
        (STREAM + b'b\r\n\x03\x00\x00\x00\x06{"a":1\r\n0\r\n\r\n', "daemon_protocol"),
        (STREAM + b'13\r\n\x03\x00\x00\x00\x0e{"type":"huh"}\r\n0\r\n\r\n', "daemon_protocol"),
    ],
    ids=lambda part: repr(part[-24:]),
)
def test_streams_that_make_no_sense(settings: Settings, answer: bytes, code: str) -> None:
    def reply(path: str, _body: bytes) -> bytes:
        return hello(settings, version=__version__) if path == "/v1/hello" else answer

    with old_daemon(settings, reply), pytest.raises(DaemonFailed) as caught:
        _read_through(settings)
    assert caught.value.code == code
