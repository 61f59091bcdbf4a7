"""The main part of a connection, once its opening is over: the SDK's server between the chat host and the daemon."""

import asyncio
import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCResponse,
    jsonrpc_message_adapter,
)

from pyro_mcp.mcp.call import Limits
from pyro_mcp.mcp.folders import allowed_folders
from pyro_mcp.mcp.presence import be_present
from pyro_mcp.mcp.profiles import tools_of
from pyro_mcp.mcp.server import build_server
from pyro_mcp.mcp.stdio import Lines, LineWriter
from pyro_mcp.sdk import AsyncPyro

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.server import Server

    from pyro_mcp.mcp.serve import ServeOptions


def serve_session(
    options: "ServeOptions", opening: Sequence[bytes], handshake_id: int | str | None, reader: Lines, wire_out: int
) -> None:
    """Serve until the chat host closes its end.

    `opening` are messages that came before. The answer to the handshake in there (`handshake_id`) has been given
    already, so the SDK's own is dropped.
    """
    be_present(makes_workspaces=any(tool.name == "workspace_create" for tool in tools_of(options.profile)))
    limits = Limits(allowed_folders(options.allow_paths, os.environ, Path.cwd()), options.network_policy)
    server = build_server(options.profile, AsyncPyro(), limits)
    session = Session(server, handshake_id, reader, LineWriter(wire_out))
    asyncio.run(session.run(opening))


class Session:
    """Moves messages between lines and the SDK's streams."""

    def __init__(
        self, server: "Server[dict[str, Any]]", handshake_id: int | str | None, reader: Lines, writer: LineWriter
    ) -> None:
        self._server = server
        self._handshake_id = handshake_id
        self._reader = reader
        self._writer = writer

    async def run(self, opening: Sequence[bytes]) -> None:
        """Serve to the end of the input; what is under way then is cancelled."""
        to_server, server_reads = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        server_writes, from_server = anyio.create_memory_object_stream[SessionMessage](0)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write, from_server)
                tasks.start_soon(self._feed, opening, to_server)
                await self._server.run(server_reads, server_writes, self._server.create_initialization_options())
                tasks.cancel_scope.cancel()
        finally:
            for stream in (to_server, server_reads, server_writes, from_server):
                stream.close()
            self._writer.close()

    async def _feed(
        self, opening: Sequence[bytes], to_server: "MemoryObjectSendStream[SessionMessage | Exception]"
    ) -> None:
        for line in opening:
            await to_server.send(self._message(line))
        # A thread that nobody waits for: a read cannot be given up.
        pump = _Pump(self._reader, asyncio.get_running_loop(), to_server, self._message)
        threading.Thread(target=pump.run, name="mcp-reader", daemon=True).start()

    def _message(self, line: bytes) -> SessionMessage | Exception:
        """A message as the SDK wants it, which also wants to hear of what is none.

        What is a request all the same, but for text that is not Unicode, is answered here: the SDK would drop it.
        """
        try:
            return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
        except ValueError as error:
            if (refusal := _refusal(line)) is not None:
                self._writer.write(refusal)
            return error

    async def _write(self, from_server: "MemoryObjectReceiveStream[SessionMessage]") -> None:
        waiting_for_handshake = self._handshake_id is not None
        async for item in from_server:
            message = item.message
            if waiting_for_handshake and isinstance(message, JSONRPCResponse | JSONRPCError):
                waiting_for_handshake = False  # the SDK answers the handshake before anything else
                continue
            if (line := _line(message)) is not None:
                self._writer.write(line)


def _line(message: JSONRPCMessage) -> bytes | None:
    """A message as it is written. What cannot be is an answer all the same, or else nothing: the session goes on."""
    try:
        return message.model_dump_json(by_alias=True, exclude_unset=True).encode()
    except ValueError as error:
        print(f"pyro: cannot write a message: {error!r}", file=sys.stderr, flush=True)
    if not isinstance(message, JSONRPCResponse | JSONRPCError):
        return None
    failed = ErrorData(code=INTERNAL_ERROR, message="the answer holds what is not Unicode text")
    return _line(JSONRPCError(jsonrpc="2.0", id=message.id, error=failed))


class _Pump:
    """Reads lines in a thread and gives them to the event loop, as quickly as the SDK takes them."""

    def __init__(
        self,
        reader: Lines,
        loop: asyncio.AbstractEventLoop,
        to_server: "MemoryObjectSendStream[SessionMessage | Exception]",
        parse: Callable[[bytes], SessionMessage | Exception],
    ) -> None:
        self._reader = reader
        self._loop = loop
        self._to_server = to_server
        self._parse = parse

    def run(self) -> None:
        with contextlib.suppress(RuntimeError, OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            while (line := self._reader.next()) is not None:
                asyncio.run_coroutine_threadsafe(self._to_server.send(self._parse(line)), self._loop).result()
        with contextlib.suppress(RuntimeError):  # the loop is closed: we end because of that
            self._loop.call_soon_threadsafe(self._to_server.close)


def _refusal(line: bytes) -> bytes | None:
    """The answer to a request that holds what UTF-8 cannot (half a surrogate pair); None if it is no request."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or not isinstance(message.get("id"), int | str) or "method" not in message:
        return None
    words = "not_utf8: the request holds text that is not Unicode. Hint: leave out half surrogate pairs."
    if message["method"] == "tools/call":
        answer: dict[str, Any] = {"result": {"content": [{"type": "text", "text": words}], "isError": True}}
    else:
        answer = {"error": {"code": INVALID_REQUEST, "message": words}}
    return json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer}).encode()
