"""What the agent of a workspace does with its requests, for a fake agent: commands run on this host, in a folder.

Commands are real processes of the host, so tests give them only harmless ones. What is kept survives a session as the
protocol says: hand the same `FakeGuest` to the next one.
"""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.fake_agent import MESSAGE, STDERR, STDOUT, AgentStream, FakeAgent, Handler, frame
from tests.support.fake_tools import FakeTools, ToolFailed
from tests.support.wire import Wire

_GRACE_SECONDS = 1.0


@dataclass
class FakeCommand:
    """A command, its output so far, and its end once there is one."""

    process: Process
    runs: list[tuple[int, bytes]] = field(default_factory=list)
    size: int = 0
    end: dict[str, Any] | None = None
    timed_out: bool = False
    cancelled: bool = False
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def add(self, tag: int, data: bytes) -> None:
        """The command wrote something."""
        async with self.changed:
            self.runs.append((tag, data))
            self.size += len(data)
            self.changed.notify_all()

    async def finish(self, code: int) -> None:
        """The command has ended and everything that it wrote is there."""
        async with self.changed:
            self.end = {
                "exit_code": code if code >= 0 else None,
                "signal": -code if code < 0 else None,
                "timed_out": self.timed_out,
            }
            self.changed.notify_all()

    def kill(self, number: int) -> None:
        """Send a signal to its process group, if there is one left."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL to what is left a second later."""
        self.kill(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_SECONDS), self.changed:
                await self.changed.wait_for(lambda: self.end is not None)
        self.kill(signal.SIGKILL)

    @property
    def output(self) -> bytes:
        """Everything that it wrote."""
        return b"".join(data for _, data in self.runs)


class FakeGuest:
    """A handler for fake agents. `requests` is everything that was asked; `deaf` lists requests to leave unanswered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept: dict[str, FakeCommand] = {}
        self.requests: list[dict[str, Any]] = []
        self.deaf: set[str] = set()
        self.tools = FakeTools(folder, self.kept)
        self._tasks: set[asyncio.Task[None]] = set()
        self._started: list[FakeCommand] = []

    async def __call__(self, stream: AgentStream) -> None:
        """One request."""
        request = await stream.request()
        self.requests.append(request)
        if request["type"] in self.deaf:
            await stream.was_reset.wait()
            return
        await getattr(self, f"_{request['type']}")(stream, request)
        stream.finish()

    async def close(self) -> None:
        """End what still runs."""
        for command in self._started:
            command.kill(signal.SIGKILL)
        await asyncio.gather(*self._tasks)

    def asked(self, kind: str) -> list[dict[str, Any]]:
        """The requests of one type."""
        return [request for request in self.requests if request["type"] == kind]

    async def _ping(self, stream: AgentStream, _request: dict[str, Any]) -> None:
        await stream.say(type="pong")

    async def _poweroff(self, stream: AgentStream, _request: dict[str, Any]) -> None:
        await stream.say(type="ok")

    async def _commands(self, stream: AgentStream, _request: dict[str, Any]) -> None:
        states = [
            {
                "id": name,
                "pid": command.process.pid,
                "running": command.end is None,
                "exit_code": command.end and command.end["exit_code"],
                "signal": command.end and command.end["signal"],
                "timed_out": command.timed_out,
                "cancelled": command.cancelled,
                "output_bytes": command.size,
            }
            for name, command in self.kept.items()
        ]
        await stream.say(type="commands", commands=states)

    async def _signal(self, stream: AgentStream, request: dict[str, Any]) -> None:
        for command in self._started:
            if command.process.pid == request["pid"] and command.end is None:
                command.kill(request["signal"])
                await stream.say(type="ok")
                return
        await stream.say(type="error", code="no_such_command", message="gone")

    async def _end(self, stream: AgentStream, request: dict[str, Any]) -> None:
        command = self.kept.get(request["id"])
        if command is None or command.end is not None:
            await stream.say(type="error", code="no_such_command", message="gone")
            return
        command.cancelled = True
        self._begin(command.stop())
        await stream.say(type="ok")

    async def _attach(self, stream: AgentStream, request: dict[str, Any]) -> None:
        command = self.kept.get(request["id"])
        if command is None:
            await stream.say(type="error", code="no_such_command", message="gone")
            return
        await self._follow(stream, command, request["offset"])

    async def _exec(self, stream: AgentStream, request: dict[str, Any]) -> None:
        try:
            command = await self._spawn(request)
        except FileNotFoundError:
            await stream.say(type="error", code="not_found", message=f"cannot run {request['argv'][0]}")
            return
        except PermissionError:
            await stream.say(type="error", code="not_executable", message=f"cannot run {request['argv'][0]}")
            return
        if request["keep"] is not None:
            self.kept[request["keep"]] = command
        feeding = asyncio.create_task(self._feed(stream, command))
        try:
            await self._follow(stream, command, 0)
        finally:
            feeding.cancel()
            if request["keep"] is None and command.end is None:
                self._begin(command.stop())

    async def _spawn(self, request: dict[str, Any]) -> FakeCommand:
        cwd = self.folder if request["cwd"] == "/workspace" else Path(request["cwd"])
        stdin = PIPE if request["stdin"] else DEVNULL
        process = await asyncio.create_subprocess_exec(
            *request["argv"],
            cwd=cwd,
            env={**os.environ, **request["env"]},
            stdin=stdin,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
        )
        command = FakeCommand(process)
        self._started.append(command)
        self._begin(self._collect(command))
        if request["timeout_ms"] is not None:
            self._begin(self._limit(command, request["timeout_ms"] / 1000))
        return command

    async def _collect(self, command: FakeCommand) -> None:
        async def read(tag: int, pipe: asyncio.StreamReader | None) -> None:
            assert pipe is not None
            while data := await pipe.read(65536):
                await command.add(tag, data)

        await asyncio.gather(read(STDOUT, command.process.stdout), read(STDERR, command.process.stderr))
        await command.finish(await command.process.wait())

    async def _limit(self, command: FakeCommand, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds), command.changed:
                await command.changed.wait_for(lambda: command.end is not None)
        except TimeoutError:
            command.timed_out = True
            await command.stop()

    async def _feed(self, stream: AgentStream, command: FakeCommand) -> None:
        stdin = command.process.stdin
        with contextlib.suppress(ConnectionError):
            async for tag, payload in stream.frames():
                assert (tag, stdin is not None) == (0, True)
                if stdin is None or not payload:
                    break
                stdin.write(payload)
                await stdin.drain()
        if stdin is not None:
            stdin.close()

    async def _follow(self, stream: AgentStream, command: FakeCommand, offset: int) -> None:
        await stream.say(type="started", pid=command.process.pid)
        at = 0
        while not stream.was_reset.is_set():
            if at == len(command.runs):
                if command.end is not None:
                    await stream.say(type="exited", **command.end)
                    return
                await self._more(stream, command, at)
                continue
            tag, data = command.runs[at]
            at += 1
            if offset < len(data):
                await stream.send(frame(tag, data[offset:]))
            offset = max(offset - len(data), 0)

    async def _more(self, stream: AgentStream, command: FakeCommand, at: int) -> None:
        """Wait until there is more to tell, or nobody to tell it to."""

        async def told() -> None:
            async with command.changed:
                await command.changed.wait_for(lambda: len(command.runs) > at or command.end is not None)

        waiting = [asyncio.create_task(told()), asyncio.create_task(stream.was_reset.wait())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    async def _tool(self, stream: AgentStream, request: dict[str, Any]) -> None:
        await stream.say(type="started", pid=1)
        tool = request["tool"]
        stdin = await self._input(stream) if tool["name"] in ("write", "unpack", "patch") else b""
        try:
            output = self.tools.run(tool, stdin)
        except ToolFailed as failed:
            await stream.send(frame(STDERR, failed.json()))
            await stream.say(type="exited", exit_code=1, signal=None, timed_out=False)
            return
        for start in range(0, len(output), 1 << 20):
            await stream.send(frame(STDOUT, output[start : start + (1 << 20)]))
        await stream.say(type="exited", exit_code=0, signal=None, timed_out=False)

    async def _input(self, stream: AgentStream) -> bytes:
        whole = bytearray()
        async for tag, payload in stream.frames():
            assert tag != MESSAGE
            if not payload:
                return bytes(whole)
            whole += payload
        raise ConnectionError("the input did not end")

    def _begin(self, doing: Any) -> None:
        task = asyncio.ensure_future(doing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@asynccontextmanager
async def listening(path: Path, handler: Handler) -> AsyncIterator[None]:
    """A fake agent behind a Unix socket, one session a connection, as a machine that outlives its daemons."""

    sessions: set[asyncio.Task[None]] = set()

    def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(FakeAgent(Wire(reader, writer), handler).serve())
        sessions.add(task)
        task.add_done_callback(sessions.discard)

    server = await asyncio.start_unix_server(session, path)
    try:
        yield
    finally:
        server.close()
        for task in sessions:
            task.cancel()
        if sessions:
            await asyncio.wait(sessions)
        path.unlink(missing_ok=True)  # noqa: ASYNC240 (a test has a loop to itself)
