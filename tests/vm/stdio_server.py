"""`pyro mcp serve` with one call under way, spoken to line by line, so that it can be killed at any moment."""

import contextlib
import json
import os
import select
import signal
import subprocess
import time

from tests.support.pace import patience
from tests.vm.pyro_command import PyroCommand

_INITIALIZE = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "tests", "version": "1"},
}
_ANSWER_SECONDS = patience(60)


class StdioServer:
    """A server that has been greeted. `call` asks for one tool; `answer` waits for what comes of it."""

    def __init__(self, pyro: PyroCommand, *flags: str) -> None:
        self._process = pyro.start("mcp", "serve", *flags, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)
        self._rest = b""
        self._answers: dict[object, dict[str, object]] = {}
        self._send({"id": 0, "method": "initialize", "params": _INITIALIZE})
        assert self._wait(0, _ANSWER_SECONDS), "the server did not answer the greeting"
        self._send({"method": "notifications/initialized"})

    def call(self, tool: str, arguments: dict[str, object]) -> None:
        """Ask for a tool; there is one call in the life of this object."""
        self._send({"id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})

    def answer(self, within_seconds: float) -> dict[str, object] | None:
        """The call's result, or None if it did not come in time, or never will."""
        self._wait(1, within_seconds)
        found = self._answers.get(1)
        return None if found is None else found.get("result")  # type: ignore[return-value]

    def kill(self) -> None:
        """End the server without warning."""
        self._process.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """End its input, as a host that leaves does, and see to its end."""
        with contextlib.suppress(BrokenPipeError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(patience(15))
        finally:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()

    def _send(self, message: dict[str, object]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def _wait(self, wanted: int, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while wanted not in self._answers and self._take(deadline - time.monotonic()):
            pass
        return wanted in self._answers

    def _take(self, seconds: float) -> bool:
        """Take what comes next; False at the end of the time or of the server."""
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], max(0.0, seconds))
        data = os.read(self._process.stdout.fileno(), 1 << 16) if readable else b""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in filter(None, lines):
            message = json.loads(line)
            self._answers[message.get("id")] = message
        return bool(data)
