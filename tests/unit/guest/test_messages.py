"""Messages are checked against what the protocol says of each."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.guest.messages import (
    AgentMessage,
    Attach,
    Commands,
    CommandState,
    CommandStates,
    End,
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
    ToolRequest,
    from_json,
    to_json,
)
from pyro_mcp.guest.tool_requests import DiffTool, ListTool, OutputTool, PatchTool, ReadTool
from pyro_mcp.guest.violation import ProtocolViolation

STATE: dict[str, Any] = {
    "id": "x-1f3a9c",
    "pid": 7,
    "running": True,
    "exit_code": None,
    "signal": None,
    "timed_out": False,
    "cancelled": False,
    "output_bytes": 0,
}


@pytest.mark.parametrize(
    ("message", "content"),
    [
        (
            Exec(("ls", "-l"), cwd="/tmp", env={"A": "b"}, stdin=True, timeout_ms=5, keep="x-1"),
            {
                "type": "exec",
                "argv": ("ls", "-l"),
                "cwd": "/tmp",
                "env": {"A": "b"},
                "stdin": True,
                "timeout_ms": 5,
                "keep": "x-1",
            },
        ),
        (
            Exec(("ls",)),
            {"type": "exec", "argv": ("ls",), "cwd": "/", "env": {}, "stdin": False, "timeout_ms": None, "keep": None},
        ),
        (Signal(5, 15), {"type": "signal", "pid": 5, "signal": 15}),
        (Attach("x-1", 7), {"type": "attach", "id": "x-1", "offset": 7}),
        (Commands(), {"type": "commands"}),
        (End("x-1"), {"type": "end", "id": "x-1"}),
        (
            ToolRequest(ListTool("/workspace", recursive=True, limit=5)),
            {"type": "tool", "tool": {"name": "list", "path": "/workspace", "recursive": True, "limit": 5}},
        ),
        (ToolRequest(PatchTool()), {"type": "tool", "tool": {"name": "patch"}}),
        (
            ToolRequest(OutputTool("x-1", 0, 10)),
            {"type": "tool", "tool": {"name": "output", "id": "x-1", "offset": 0, "limit": 10, "grep": None}},
        ),
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
        ({"type": "commands", "commands": []}, CommandStates(())),
        ({"type": "commands", "commands": [STATE]}, CommandStates((CommandState(**STATE),))),
        (
            {"type": "commands", "commands": [{**STATE, "running": False, "exit_code": 3}]},
            CommandStates((CommandState(**{**STATE, "running": False, "exit_code": 3}),)),
        ),
        (
            {"type": "commands", "commands": [{**STATE, "output_bytes": 1 << 53}]},
            CommandStates((CommandState(**{**STATE, "output_bytes": 1 << 53}),)),
        ),
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
        {"type": "commands"},
        {"type": "commands", "commands": [{}]},
        {"type": "commands", "commands": [STATE] * 2049},
        {"type": "commands", "commands": [{**STATE, "id": ""}]},
        {"type": "commands", "commands": [{**STATE, "id": "../x"}]},
        {"type": "commands", "commands": [{**STATE, "pid": 0}]},
        {"type": "commands", "commands": [{**STATE, "output_bytes": -1}]},
        {"type": "commands", "commands": [{**STATE, "output_bytes": (1 << 53) + 1}]},
        {"type": "commands", "commands": [{**STATE, "output_bytes": (1 << 63) - 1}]},
        {"type": "commands", "commands": [{**STATE, "output_bytes": 1 << 63}]},
        {"type": "commands", "commands": [{**STATE, "exit_code": 0}]},
        {"type": "commands", "commands": [{**STATE, "running": False}]},
        {"type": "commands", "commands": [{**STATE, "running": False, "signal": 65}]},
        {"type": "commands", "commands": [{**STATE, "more": 1}]},
        {"type": "pong", "more": 1},
        {"type": "ok", "more": None},
    ],
)
def test_what_the_protocol_does_not_know_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(ProtocolViolation):
        from_json(content)


@pytest.mark.parametrize(
    "message",
    [
        Exec(()),
        Exec(("a\0b",)),
        Exec(("\ud800",)),
        Exec(("a",), cwd="relative"),
        Exec(("a",), env={"": "1"}),
        Exec(("a",), env={"A=B": "1"}),
        Exec(("a",), env={"A": "\0"}),
        Exec(("a",), timeout_ms=0),
        Exec(("a",), keep=""),
        Exec(("a",), keep="X"),
        Exec(("a",), keep="x" * 65),
        Attach("../x"),
        Attach("x-1", -1),
        Attach("x-1", 1 << 63),
        End("x 1"),
        Signal(0, 15),
        Signal(-1, 15),
        Signal(5, 0),
        Signal(5, 65),
        ToolRequest(ReadTool("/workspace/\0", 0, 1)),
        ToolRequest(ReadTool("workspace/x", 0, 1)),
        ToolRequest(ReadTool("/workspace/x", -1, 1)),
        ToolRequest(DiffTool(-1)),
        ToolRequest(ReadTool("/workspace/x", 0, 0)),
        ToolRequest(ListTool("/workspace", recursive=False, limit=0)),
        ToolRequest(OutputTool("x/1", 0, 1)),
        ToolRequest(OutputTool("x-1", 0, 1 << 70)),
        ToolRequest(OutputTool("x-1", 0, 1, grep="\0")),
    ],
    ids=repr,
)
def test_what_the_agent_would_refuse_is_not_sent(message: HostMessage) -> None:
    with pytest.raises(InvalidRequest):
        to_json(message)


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
