"""Messages are checked against what the protocol says of each."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_mcp.guest.messages import (
    AgentMessage,
    Exec,
    Exited,
    Failed,
    HostMessage,
    Ok,
    Ping,
    Pong,
    Poweroff,
    Signal,
    Started,
    from_json,
    to_json,
)
from pyro_mcp.guest.violation import ProtocolViolation


@pytest.mark.parametrize(
    ("message", "content"),
    [
        (
            Exec(("ls", "-l"), cwd="/tmp", env={"A": "b"}, stdin=True, timeout_ms=5),
            {"type": "exec", "argv": ("ls", "-l"), "cwd": "/tmp", "env": {"A": "b"}, "stdin": True, "timeout_ms": 5},
        ),
        (
            Exec(("ls",)),
            {"type": "exec", "argv": ("ls",), "cwd": "/", "env": {}, "stdin": False, "timeout_ms": None},
        ),
        (Signal(5, 15), {"type": "signal", "pid": 5, "signal": 15}),
        (Ping(), {"type": "ping"}),
        (Poweroff(), {"type": "poweroff"}),
    ],
)
def test_what_goes_to_the_agent(message: HostMessage, content: dict[str, object]) -> None:
    assert to_json(message) == content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"type": "started", "pid": 7}, Started(7)),
        ({"type": "exited", "exit_code": 0, "signal": None, "timed_out": False}, Exited(0, None, False)),
        ({"type": "exited", "exit_code": 255, "signal": None, "timed_out": True}, Exited(255, None, True)),
        ({"type": "exited", "exit_code": None, "signal": 64, "timed_out": True}, Exited(None, 64, True)),
        ({"type": "error", "code": "not_found", "message": "no"}, Failed("not_found", "no")),
        ({"type": "started", "pid": 2**31 - 1}, Started(2**31 - 1)),
        ({"type": "pong"}, Pong()),
        ({"type": "ok"}, Ok()),
    ],
)
def test_what_comes_from_the_agent(content: dict[str, object], message: AgentMessage) -> None:
    assert from_json(content) == message


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"type": "unheard"},
        {"type": 5},
        {"type": "exec", "argv": ["ls"]},
        {"type": "started"},
        {"type": "started", "pid": "7"},
        {"type": "started", "pid": True},
        {"type": "started", "pid": 7.0},
        {"type": "started", "pid": 7, "more": 1},
        {"type": "started", "pid": 0},
        {"type": "started", "pid": -1},
        {"type": "started", "pid": 2**31},
        {"type": "error", "code": "dunno", "message": "no"},
        {"type": "exited"},
        {"type": "exited", "exit_code": 0, "signal": None},
        {"type": "exited", "exit_code": 0, "timed_out": False},
        {"type": "exited", "exit_code": None, "signal": None, "timed_out": False},
        {"type": "exited", "exit_code": 0, "signal": 9, "timed_out": False},
        {"type": "exited", "exit_code": 256, "signal": None, "timed_out": False},
        {"type": "exited", "exit_code": -1, "signal": None, "timed_out": False},
        {"type": "exited", "exit_code": None, "signal": 65, "timed_out": False},
        {"type": "exited", "exit_code": None, "signal": 0, "timed_out": False},
        {"type": "exited", "exit_code": None, "signal": -9, "timed_out": False},
        {"type": "exited", "exit_code": 0, "signal": None, "timed_out": 0},
        {"type": "error", "code": "not_found"},
        {"type": "error", "code": None, "message": "no"},
        {"type": "pong", "more": 1},
        {"type": "ok", "more": None},
    ],
)
def test_what_the_protocol_does_not_know_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(ProtocolViolation):
        from_json(content)


_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-300, 300) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
_names = st.sampled_from(("exit_code", "signal", "timed_out", "pid", "code", "message", "other"))
_types = st.sampled_from(("started", "exited", "error", "pong", "ok", "exec", "ping", ""))


@given(_types | _json, st.dictionaries(_names, _json, max_size=4))
def test_whatever_comes_is_a_message_or_a_violation(kind: object, fields: dict[str, object]) -> None:
    try:
        message = from_json({**fields, "type": kind})
    except ProtocolViolation:
        return
    if isinstance(message, Exited):
        assert (message.exit_code is None) != (message.signal is None)
        assert message.exit_code is None or 0 <= message.exit_code <= 255
        assert message.signal is None or 1 <= message.signal <= 64


def test_a_violation_does_not_repeat_everything_that_it_was_sent() -> None:
    with pytest.raises(ProtocolViolation) as caught:
        from_json({"type": "x" * 100_000})
    assert len(caught.value.message) < 300
    with pytest.raises(ProtocolViolation) as caught:
        from_json({"type": "pong", "y" * 100_000: 1})
    assert len(caught.value.message) < 400
