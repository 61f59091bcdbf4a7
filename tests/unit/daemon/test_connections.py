"""Connections between requests, and calls that are given up."""

import os
import socket
from unittest.mock import patch

import pytest

from pyro_mcp.daemon import connections as connections_module
from pyro_mcp.daemon.abort import Abort
from pyro_mcp.daemon.connections import Connections
from pyro_mcp.daemon.gone import DaemonGone
from pyro_mcp.daemon.http import Connection


def _connection(*, reusable: bool = True) -> tuple[Connection, socket.socket]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    connection = Connection(ours)
    connection.reusable = reusable
    return connection, theirs


def _is_closed(theirs: socket.socket) -> bool:
    try:
        return theirs.recv(1) == b""
    except BlockingIOError:
        return False


def test_what_can_be_used_again_is() -> None:
    connections = Connections()
    assert connections.take() is None
    connection, theirs = _connection()
    connections.give(connection)
    assert connections.take() is connection
    assert connections.take() is None
    connections.give(connection)
    connections.close()
    assert _is_closed(theirs)
    theirs.close()


def test_what_cannot_be_used_again_is_closed() -> None:
    connections = Connections()
    connection, theirs = _connection(reusable=False)
    connections.give(connection)
    assert connections.take() is None
    assert _is_closed(theirs)
    theirs.close()


def test_a_connection_whose_daemon_went_away_is_dropped() -> None:
    connections = Connections()
    good, theirs = _connection()
    gone, closed = _connection()
    connections.give(good)
    connections.give(gone)
    closed.close()
    assert connections.take() is good
    good.close()
    theirs.close()


def test_a_connection_that_rested_long_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections_module, "_REST_SECONDS", 0.0)
    connections = Connections()
    connection, theirs = _connection()
    connections.give(connection)
    assert connections.take() is None
    assert _is_closed(theirs)
    theirs.close()


def test_no_more_than_some_are_kept() -> None:
    connections = Connections()
    pairs = [_connection() for _ in range(20)]
    for connection, _ in pairs:
        connections.give(connection)
    assert sum(_is_closed(theirs) for _, theirs in pairs) == 12
    del connection
    connections.__del__()
    assert all(_is_closed(theirs) for _, theirs in pairs)
    for _, theirs in pairs:
        theirs.close()


def test_a_fork_does_not_use_its_parents_connections() -> None:
    connections = Connections()
    connection, theirs = _connection()
    connections.give(connection)
    with patch.object(os, "getpid", return_value=-1):
        assert connections.take() is None
        connections.give(connection)
        assert connections.take() is connection
    connection.close()
    theirs.close()


def test_giving_up_breaks_the_connections_in_use_and_no_others() -> None:
    abort = Abort()
    used, theirs = _connection()
    returned, others = _connection()
    abort.add(used)
    abort.add(returned)
    abort.remove(returned)
    abort.abort()
    assert _is_closed(theirs)
    assert not _is_closed(others)
    with pytest.raises(DaemonGone):
        abort.add(returned)
    for end in (used, returned, theirs, others):
        end.close()
