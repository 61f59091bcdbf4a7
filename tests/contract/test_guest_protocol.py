"""The host's half of the guest protocol against schema and examples; the agent's half has the same tests in Rust."""

import asyncio
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyro_mcp
from pyro_mcp.guest import frames, identity, tool_requests
from pyro_mcp.guest.frames import FrameDecoder, Message, Output, Tag
from pyro_mcp.guest.messages import (
    Attach,
    Commands,
    CommandState,
    CommandStates,
    End,
    Exec,
    HostMessage,
    Ping,
    Poweroff,
    Signal,
    ToolRequest,
    from_json,
    to_json,
)
from pyro_mcp.guest.preamble import GENERATION, _decode_hello, packet
from pyro_mcp.guest.violation import ProtocolViolation
from tests.support import fake_agent

PROTOCOL = Path(pyro_mcp.__file__).parents[2] / "protocol"
SCHEMA = json.loads((PROTOCOL / "schema.json").read_text())
EXAMPLES = json.loads((PROTOCOL / "examples.json").read_text())


def _validator(*path: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({**SCHEMA, "oneOf": [{"$ref": "#/" + "/".join(("$defs", *path))}]})


def _messages(which: str, direction: str) -> list[Any]:
    return [example["message"] for example in EXAMPLES[which] if example["direction"] == direction]


def _packets(which: str, kind: str) -> list[Any]:
    return [example["payload"] for example in EXAMPLES["preambles"][which] if example["kind"] == kind]


def _decode(content: Any) -> object:
    """What the host makes of a message frame."""
    (item,) = FrameDecoder().feed(frames.frame(Tag.MESSAGE, json.dumps(content).encode()))
    assert isinstance(item, Message)
    return from_json(item.content)


def test_the_schema_is_a_schema_of_this_generation() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert f"generation {GENERATION}" in SCHEMA["title"]


@pytest.mark.parametrize("direction", ["host", "agent"])
def test_the_examples_are_what_the_schema_says(direction: str) -> None:
    validator = _validator(direction)
    for message in _messages("valid", direction):
        validator.validate(message)
    for message in _messages("invalid", direction):
        assert not validator.is_valid(message), message


@pytest.mark.parametrize("message", _messages("valid", "agent"), ids=json.dumps)
def test_what_an_agent_may_say_is_understood(message: dict[str, Any]) -> None:
    decoded = _decode(message)
    wanted = {name: value for name, value in message.items() if name != "type"}
    if isinstance(decoded, CommandStates):
        wanted["commands"] = tuple(CommandState(**state) for state in wanted["commands"])
    assert {name: getattr(decoded, name) for name in wanted} == wanted


@pytest.mark.parametrize("message", _messages("invalid", "agent"), ids=json.dumps)
def test_what_an_agent_may_not_say_is_refused(message: Any) -> None:
    with pytest.raises(ProtocolViolation):
        _decode(message)


@pytest.mark.parametrize("message", _messages("valid", "host"), ids=json.dumps)
def test_an_agent_may_not_say_what_a_host_says(message: dict[str, Any]) -> None:
    with pytest.raises(ProtocolViolation):
        _decode(message)


@pytest.mark.parametrize("message", _messages("valid", "host"), ids=json.dumps)
def test_the_host_can_say_every_example(message: dict[str, Any]) -> None:
    fields = {name: value for name, value in message.items() if name != "type"}
    if "argv" in fields:
        fields["argv"] = tuple(fields["argv"])
    if "tool" in fields:
        tool = dict(fields["tool"])
        fields["tool"] = _TOOLS[tool.pop("name")](**tool)
    said = _REQUESTS[message["type"]](**fields)
    assert json.loads(json.dumps(to_json(said))) == message


_REQUESTS: dict[str, type[HostMessage]] = {
    "exec": Exec,
    "attach": Attach,
    "commands": Commands,
    "end": End,
    "tool": ToolRequest,
    "signal": Signal,
    "ping": Ping,
    "poweroff": Poweroff,
}
_TOOLS: dict[str, type[tool_requests.Tool]] = {
    "list": tool_requests.ListTool,
    "read": tool_requests.ReadTool,
    "write": tool_requests.WriteTool,
    "unpack": tool_requests.UnpackTool,
    "pack": tool_requests.PackTool,
    "diff": tool_requests.DiffTool,
    "patch": tool_requests.PatchTool,
    "output": tool_requests.OutputTool,
    "spare": tool_requests.SpareTool,
}

_text = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=10)
_path = _text.map(lambda path: f"/{path}")
_id = st.text("abz09-", min_size=1, max_size=64)
_number = st.integers(0, 2**63 - 1)
_limit = st.integers(1, 2**63 - 1)
_tools: st.SearchStrategy[tool_requests.Tool] = st.one_of(
    st.builds(tool_requests.ListTool, _path, st.booleans(), _limit),
    st.builds(tool_requests.ReadTool, _path, _number, _limit),
    st.builds(tool_requests.WriteTool, _path),
    st.builds(tool_requests.UnpackTool, _path),
    st.builds(tool_requests.PackTool, _path),
    st.builds(tool_requests.DiffTool, _number),
    st.builds(tool_requests.PatchTool),
    st.builds(tool_requests.SpareTool),
    st.builds(tool_requests.OutputTool, _id, _number, _limit, st.none() | _text),
)
_requests: st.SearchStrategy[HostMessage] = st.one_of(
    st.builds(
        Exec,
        argv=st.lists(_text, min_size=1, max_size=4).map(tuple),
        cwd=_path,
        env=st.dictionaries(_text.filter(lambda name: name and "=" not in name), _text, max_size=3),
        stdin=st.booleans(),
        timeout_ms=st.none() | st.integers(1, 2**64 - 1),
        keep=st.none() | _id,
    ),
    st.builds(Attach, _id, _number),
    st.builds(End, _id),
    st.just(Commands()),
    _tools.map(ToolRequest),
    st.builds(Signal, st.integers(1, 2**31 - 1), st.integers(1, 64)),
    st.just(Ping()),
    st.just(Poweroff()),
)


@given(_requests)
def test_whatever_the_host_says_is_in_the_schema(request: HostMessage) -> None:
    _validator("host").validate(json.loads(json.dumps(to_json(request))))


_values: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers(-2, 300) | st.text(max_size=4)
_states = st.fixed_dictionaries(
    {
        "id": _id | _values,
        "pid": st.just(79) | _values,
        "running": st.booleans() | _values,
        "exit_code": _values,
        "signal": st.none() | _values,
        "timed_out": st.booleans() | _values,
        "cancelled": st.booleans() | _values,
        "output_bytes": _number | _values,
    },
    optional={"extra": _values},
)
_agent_like = st.fixed_dictionaries(
    {"type": st.sampled_from(["pong", "ok", "started", "exited", "error", "commands", "exec", "?"])},
    optional={
        "pid": _values,
        "exit_code": _values,
        "signal": _values,
        "timed_out": _values,
        "code": _values | st.sampled_from(["internal", "bad_cwd"]),
        "message": _values,
        "commands": st.just([]) | st.lists(_states, max_size=2),
        "extra": _values,
    },
)


@given(_agent_like)
def test_host_and_schema_agree_on_every_message(message: dict[str, Any]) -> None:
    try:
        _decode(message)
        accepted = True
    except ProtocolViolation:
        accepted = False
    assert accepted == _validator("agent").is_valid(message)


@pytest.mark.parametrize("example", EXAMPLES["frames"], ids=lambda example: example["hex"][:20])
@pytest.mark.parametrize("step", [1, 3, 100_000])
def test_frames_are_cut_as_the_examples_say(example: dict[str, Any], step: int) -> None:
    data = bytes.fromhex(example["hex"])
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    decoder = FrameDecoder()
    from_host = any(frame["tag"] == Tag.STDIN for frame in example.get("frames", ()))
    if from_host or example.get("error") in ("unknown_tag", "oversized"):
        with pytest.raises(ProtocolViolation):
            _items(decoder, pieces)
        return
    items = _items(decoder, pieces)
    assert decoder.inside_frame == (example.get("error") == "incomplete")
    wanted = b"".join(bytes.fromhex(frame["payload"]) for frame in example.get("frames", ()) if frame["tag"] != 3)
    assert b"".join(item.data for item in items if isinstance(item, Output)) == wanted
    wanted_messages = [json.loads(bytes.fromhex(f["payload"])) for f in example.get("frames", ()) if f["tag"] == 3]
    assert [item.content for item in items if isinstance(item, Message)] == wanted_messages


def _items(decoder: FrameDecoder, pieces: list[bytes]) -> list[Output | Message]:
    return [item for piece in pieces for item in decoder.feed(piece)]


@pytest.mark.parametrize("kind", ["H", "R", "S", "A", "P", "D"])
def test_the_packets_are_what_the_schema_says(kind: str) -> None:
    validator = _validator("preamble", "$defs", kind)
    for payload in _packets("valid", kind):
        validator.validate(payload)
    for payload in _packets("invalid", kind):
        assert not validator.is_valid(payload), payload


@pytest.mark.parametrize("payload", _packets("valid", "R"), ids=json.dumps)
def test_every_valid_reply_is_understood(payload: dict[str, Any]) -> None:
    hello = _decode_hello(json.dumps(payload).encode())
    assert hello.generation == payload["generation"]
    if payload["generation"] == GENERATION:
        assert (hello.agent_version, hello.boot_id) == (payload["agent_version"], payload["boot_id"])


@pytest.mark.parametrize("payload", _packets("invalid", "R"), ids=json.dumps)
def test_no_invalid_reply_is_taken_for_one_of_ours(payload: Any) -> None:
    try:
        hello = _decode_hello(json.dumps(payload).encode())
    except ProtocolViolation:
        return
    assert hello.generation != GENERATION


def test_the_hosts_packets_are_in_the_schema() -> None:
    said: list[tuple[bytes, dict[str, object]]] = [
        (b"H", {"generation": GENERATION}),
        (b"S", {}),
        (b"S", {"machine": identity.of_throwaway().assignment()}),
        (b"S", {"machine": identity.of_workspace("w-ab23", seed=True).assignment()}),
        (b"P", {"machine": identity.of_workspace("w-ab23", seed=False).assignment()}),
    ]
    for kind, content in said:
        _validator("preamble", "$defs", kind.decode()).validate(content)
        written = packet(kind, bytes(16), content)
        assert written[:5] == b"PYRO" + kind
        assert json.loads(written[25:]) == content


async def test_the_tests_own_agent_speaks_the_protocol_too() -> None:
    """Otherwise the tests of the host would prove nothing."""
    nonce = b"n" * 16
    for kind, content in ((b"R", fake_agent.reply(nonce)), (b"A", fake_agent.packet(b"A", nonce, {}))):
        reader = asyncio.StreamReader()
        reader.feed_data(content)
        found, found_nonce, payload = await fake_agent.read_packet(reader)
        assert (found, found_nonce) == (kind, nonce)
        _validator("preamble", "$defs", kind.decode()).validate(payload)
    assert fake_agent.frame(1, b"out\n") == frames.frame(Tag.STDOUT, b"out\n")
