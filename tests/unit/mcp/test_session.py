"""What the SDK's server has to say goes out, and nothing that it says ends the session."""

import json
from typing import Any, cast

import anyio
import pytest
from mcp.shared.message import SessionMessage
from mcp_types import ErrorData, JSONRPCError, JSONRPCMessage, JSONRPCNotification, JSONRPCResponse

from pyro_mcp.mcp.session import Session

BROKEN = {"content": [{"type": "text", "text": "/workspace/\ud800"}]}
FINE = JSONRPCResponse(jsonrpc="2.0", id=2, result={"content": []})


class Written:
    """Takes what is written."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def write(self, line: bytes) -> None:
        self.messages.append(json.loads(line))


async def _written(*messages: JSONRPCMessage) -> list[dict[str, Any]]:
    written = Written()
    session = Session(cast("Any", None), None, cast("Any", None), cast("Any", written))
    giving, taking = anyio.create_memory_object_stream[SessionMessage](len(messages))
    for message in messages:
        giving.send_nowait(SessionMessage(message))
    giving.close()
    with taking:
        await session._write(taking)
    return written.messages


@pytest.mark.parametrize(
    "broken",
    [
        JSONRPCResponse(jsonrpc="2.0", id=1, result=BROKEN),
        JSONRPCError(jsonrpc="2.0", id=1, error=ErrorData(code=1, message="\udfff")),
    ],
    ids=lambda message: type(message).__name__,
)
async def test_an_answer_that_cannot_be_written_becomes_an_error(
    broken: JSONRPCMessage, capsys: pytest.CaptureFixture[str]
) -> None:
    refused, fine = await _written(broken, FINE)
    assert (refused["id"], refused["error"]["code"]) == (1, -32603)
    assert fine == {"jsonrpc": "2.0", "id": 2, "result": {"content": []}}
    assert "cannot write a message" in capsys.readouterr().err


async def test_what_nobody_waits_for_is_left_out_if_it_cannot_be_written() -> None:
    broken = JSONRPCNotification(jsonrpc="2.0", method="notifications/message", params={"data": "\ud800"})
    assert [message["id"] for message in await _written(broken, FINE)] == [2]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (rb'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x","arguments":{"a":"\udcff"}}}', "result"),
        (rb'{"jsonrpc":"2.0","id":"a","method":"ping","params":{"a":"\ud800"}}', "error"),
    ],
)
def test_a_request_that_utf8_cannot_hold_is_answered(line: bytes, wanted: str) -> None:
    written = Written()
    session = Session(cast("Any", None), None, cast("Any", None), cast("Any", written))
    assert isinstance(session._message(line), Exception)
    (answer,) = written.messages
    assert answer["id"] == json.loads(line)["id"]
    assert "not_utf8" in json.dumps(answer[wanted])
    assert answer.get("result", {"isError": True})["isError"]


@pytest.mark.parametrize(
    "line",
    [b"nonsense", b"[]", b'{"jsonrpc":"2.0","method":"x\\ud800"}', b'{"jsonrpc":"2.0","id":1,"result":"\\ud800"}'],
)
def test_what_is_no_request_is_not_answered(line: bytes) -> None:
    written = Written()
    session = Session(cast("Any", None), None, cast("Any", None), cast("Any", written))
    assert isinstance(session._message(line), Exception)
    assert written.messages == []
