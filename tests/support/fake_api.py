"""Something at a VMM's API socket in Firecracker's place, which answers right or wrong."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyro_mcp.vmm.firecracker_api import FirecrackerApi
from tests.support.descriptors import opened

INFO = {"id": "anonymous-instance", "state": "Running", "vmm_version": "1.12.1", "app_name": "Firecracker"}
DONE = b"HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n"


def answer(content: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


@dataclass
class FakeApi:
    """Answers every request with `says`, hanging up afterwards if it is to; `asked` is what it was asked."""

    says: bytes
    hangs_up: bool = False
    asked: list[tuple[str, Any]] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lengths = [line for line in head.splitlines() if line.lower().startswith("content-length:")]
            body = await reader.readexactly(int(lengths[0].split(":")[1]) if lengths else 0)
            self.asked.append((head.splitlines()[0], json.loads(body) if body else None))
            writer.write(self.says)
            if self.hangs_up:
                writer.write_eof()
            while await reader.read(4096):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()
            self.left.set()


@asynccontextmanager
async def served(folder: Path, fake: FakeApi) -> AsyncIterator[FirecrackerApi]:
    """Such an API in this folder; each connection is closed by the host."""
    before = opened().keys()
    async with asyncio.timeout(30):
        async with await asyncio.start_unix_server(fake, folder / "api.sock"):
            yield FirecrackerApi(folder)
            await fake.left.wait()
        while opened().keys() != before:  # noqa: ASYNC110  (transports close a little later)
            await asyncio.sleep(0)
