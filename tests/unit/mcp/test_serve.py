"""From the first line to the end of the input, as a chat host sees it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.mcp.serve import ServeOptions, serve

ROOT = Path(__file__).parents[3]
INITIALIZE = {
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}
LIST = {"method": "tools/list"}
CALL = {"method": "tools/call", "params": {"name": "workspace_list", "arguments": {}}}


class Host:
    """A chat host that sends what a test has it send."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self._last_id = 0

    def send(self, *messages: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        for message in messages:
            self._last_id += 1
            whole = {"jsonrpc": "2.0", "id": self._last_id, **message}
            self.process.stdin.write(json.dumps(whole).encode() + b"\n")
        self.process.stdin.flush()

    def receive(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


@contextmanager
def host(tmp_path: Path) -> Iterator[Host]:
    argv = [sys.executable, "-m", "tests.unit.mcp.fake_server", str(tmp_path / "notes")]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    with process:
        yield Host(process)
        process.kill()


def test_everything_at_once_is_answered_once_and_in_order(tmp_path: Path) -> None:
    with host(tmp_path) as chat:
        chat.send(INITIALIZE, {"method": "ping"}, LIST, LIST, CALL, {"method": "nonsense"})
        got = [chat.receive() for _ in range(6)]
        assert [each["id"] for each in got[:3]] == [1, 2, 3]
        assert sorted(each["id"] for each in got) == [1, 2, 3, 4, 5, 6]
        by_id = {each["id"]: each for each in got}
        assert by_id[4]["result"] == by_id[3]["result"]
        assert by_id[5]["result"]["structuredContent"]["total"] == 1
        assert by_id[6]["error"]["code"] == -32601


def test_a_call_without_a_list_before_it(tmp_path: Path) -> None:
    with host(tmp_path) as chat:
        chat.send(INITIALIZE, CALL)
        assert [chat.receive()["id"] for _ in range(2)] == [1, 2]


def test_a_handshake_that_only_the_sdk_understands(tmp_path: Path) -> None:
    with host(tmp_path) as chat:
        chat.send({"method": "initialize", "params": {}}, INITIALIZE, LIST)
        refused, accepted, listed = (chat.receive() for _ in range(3))
        assert refused["error"]["code"] == -32602
        assert accepted["result"]["serverInfo"]["name"] == "pyro"
        assert len(listed["result"]["tools"]) == 20


def test_rubbish_does_not_end_the_connection(tmp_path: Path) -> None:
    with host(tmp_path) as chat:
        assert chat.process.stdin is not None
        chat.process.stdin.write(b"rubbish\n\xff\n[]\n")
        chat.send(INITIALIZE, CALL)
        assert [chat.receive()["id"] for _ in range(2)] == [1, 2]


@pytest.mark.parametrize("messages", [[], [INITIALIZE], [INITIALIZE, LIST]])
def test_the_end_of_the_input_ends_the_server(tmp_path: Path, messages: list[dict[str, Any]]) -> None:
    with host(tmp_path) as chat:
        chat.send(*messages)
        for _ in messages:
            chat.receive()
        assert chat.process.stdin is not None
        chat.process.stdin.close()
        assert chat.process.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_the_server(tmp_path: Path, number: signal.Signals) -> None:
    with host(tmp_path) as chat:
        chat.send(INITIALIZE, CALL)
        chat.receive()
        chat.receive()
        chat.process.send_signal(number)
        assert chat.process.wait() == -number


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    before = os.fstat(1)
    with pytest.raises(InvalidRequest, match="is not a folder"):
        serve(ServeOptions(allow_paths=(str(tmp_path / "none"),)))
    assert os.fstat(1) == before
