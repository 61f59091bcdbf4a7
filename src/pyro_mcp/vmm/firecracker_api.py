"""Firecracker's API over its Unix socket, as far as we use it. Source: its OpenAPI document, v1.12.1.

The VMM may be its guest's by now: what it answers is bounded and checked.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import h11

from pyro_mcp import models
from pyro_mcp.errors import GuestFailed, InvalidRequest
from pyro_mcp.unix_path import connect_to

SOCKET = "api.sock"
NOT_STARTED = "Not started"
RUNNING = "Running"
PAUSED = "Paused"
_STATES = (NOT_STARTED, RUNNING, PAUSED)

_MAX_ANSWER = 64 * 1024  # bytes
_ANSWER_SECONDS = 10.0
# Memory is written out at no less than some 20 MiB a second, and there may be many GiB of it.
_SNAPSHOT_SECONDS = 600.0
_THERE_SECONDS = 10.0
# Whoever wants to use the machine waits for this.
_BALLOON_SECONDS = 3.0
_LOOK_AGAIN_SECONDS = 0.01
_T = TypeVar("_T")


@dataclass(frozen=True)
class InstanceInfo:
    """What a VMM says of itself (GET /)."""

    id: str
    state: str
    vmm_version: str
    app_name: str


@dataclass(frozen=True)
class SnapshotPaths:
    """The files of a snapshot as the VMM sees them: the state of its devices, and the guest's memory."""

    state: str
    memory: str


@dataclass(frozen=True)
class FirecrackerApi:
    """The API of the VMM that works in `folder`.

    Everything here raises `GuestFailed`: `vmm_gone` where nobody answers, `vmm_refused` with the VMM's own words, and
    `vmm_rubbish` where the answer is none.
    """

    folder: Path

    async def wait_until_there(self) -> None:
        """Wait for a VMM that was started a moment ago: nothing tells when its socket is there."""
        try:
            async with asyncio.timeout(_THERE_SECONDS):
                while not await self._listens():  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        except TimeoutError:
            raise GuestFailed("vmm_gone", "the VMM offers no API") from None

    async def _listens(self) -> bool:
        try:
            (await connect_to(self.folder / SOCKET)).close()
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError as error:
            raise GuestFailed("vmm_gone", f"the VMM's API cannot be reached: {error}") from error
        return True

    async def info(self) -> InstanceInfo:
        """Who answers, and whether its guest runs."""
        told = _decoded(InstanceInfo, await self._ask("GET", "/"))
        if told.state not in _STATES:
            raise GuestFailed("vmm_rubbish", f"the VMM is in a state that is not known: {told.state[:40]!r}")
        return told

    async def pause(self) -> None:
        """Stop the guest's processors."""
        await self._ask("PATCH", "/vm", {"state": PAUSED})

    async def resume(self) -> None:
        """Let them go on."""
        await self._ask("PATCH", "/vm", {"state": "Resumed"})

    async def set_balloon(self, mib: int) -> None:
        """Ask the guest to give up so many MiB of its memory, 0 for none; returns before it has."""
        await self._ask("PATCH", "/balloon", {"amount_mib": mib}, _BALLOON_SECONDS)

    async def create_snapshot(self, paths: SnapshotPaths, *, written_alone: bool = False) -> None:
        """Write a paused guest's state and memory into files that are not there yet.

        With `written_alone` the memory that nobody has written to since the start stays a hole; the machine has to keep
        track of that.
        """
        kind = "Diff" if written_alone else "Full"
        body = {"snapshot_type": kind, "snapshot_path": paths.state, "mem_file_path": paths.memory}
        await self._ask("PUT", "/snapshot/create", body, _SNAPSHOT_SECONDS)

    async def load_snapshot(self, paths: SnapshotPaths) -> None:
        """Make a VMM that has no guest go on with one from a snapshot; its memory is read as it is needed, and copied
        where it is written to."""
        body = {
            "snapshot_path": paths.state,
            "mem_backend": {"backend_type": "File", "backend_path": paths.memory},
            "resume_vm": True,
        }
        await self._ask("PUT", "/snapshot/load", body)

    async def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        timeout_seconds: float = _ANSWER_SECONDS,
    ) -> bytes:
        try:
            async with asyncio.timeout(timeout_seconds):
                status, answer = await self._exchange(method, path, body)
        except (OSError, TimeoutError) as error:
            raise GuestFailed("vmm_gone", f"the VMM does not answer: {error or 'it takes too long'}") from error
        except h11.RemoteProtocolError as error:
            raise GuestFailed("vmm_rubbish", "the VMM's answer is no HTTP") from error
        if status not in (200, 204):
            raise GuestFailed("vmm_refused", f"the VMM refuses {method} {path}: {_fault(answer)}")
        return answer

    async def _exchange(self, method: str, path: str, body: Mapping[str, object] | None) -> tuple[int, bytes]:
        content = b"" if body is None else json.dumps(body).encode()
        request = h11.Request(
            method=method,
            target=path,
            headers=[
                ("Host", "localhost"),
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(content))),
            ],
        )
        connection = h11.Connection(h11.CLIENT)
        channel = await connect_to(self.folder / SOCKET)
        reader, writer = await asyncio.open_unix_connection(sock=channel)
        try:
            for event in (request, h11.Data(data=content), h11.EndOfMessage()):
                writer.write(connection.send(event) or b"")
            await writer.drain()
            return await _answer(connection, reader)
        finally:
            writer.transport.abort()


async def _answer(connection: h11.Connection, reader: asyncio.StreamReader) -> tuple[int, bytes]:
    status, content = 0, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_MAX_ANSWER))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            content += event.data
            if len(content) > _MAX_ANSWER:
                raise GuestFailed("vmm_rubbish", "the VMM's answer does not end")
        elif isinstance(event, h11.EndOfMessage):
            return status, content


def _decoded(kind: type[_T], answer: bytes) -> _T:
    try:
        return models.decode(kind, json.loads(answer))
    except (ValueError, RecursionError, InvalidRequest) as error:
        raise GuestFailed("vmm_rubbish", f"the VMM's answer is not what it should be: {error}") from error


def _fault(answer: bytes) -> str:
    """The VMM's own words, in part."""
    try:
        told = json.loads(answer)
        words = told["fault_message"]
    except (ValueError, RecursionError, KeyError, TypeError):
        words = answer.decode(errors="replace")
    return ascii(str(words)[:300])
