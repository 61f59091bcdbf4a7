"""Requests to the API without a socket between."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import pytest
from starlette.types import ASGIApp

from pyro_mcp.events import event_from_json
from pyro_mcp.guest.frames import FrameDecoder, Message


@dataclass
class Answer:
    """What a request got."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["code"])

    def raised(self) -> BaseException:
        """The error that the last event of a stream stands for."""
        assert self.status == 200
        last = list(FrameDecoder().feed(self.body))[-1]
        assert isinstance(last, Message)
        with pytest.raises(Exception) as caught:  # noqa: PT011  (which one is the caller's question)
            event_from_json(last.content)
        return caught.value


async def ask(
    app: ASGIApp, method: str, path: str, body: object = None, parts: Iterable[bytes] | None = None
) -> Answer:
    """One request; `parts` is a raw body that comes piece by piece."""
    pieces = list(parts) if parts is not None else [b"" if body is None else json.dumps(body).encode()]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if not pieces:
            return await asyncio.Future()
        await asyncio.sleep(0)
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
    }
    await app(scope, receive, send)
    body_sent = b"".join(message.get("body", b"") for message in sent)
    return Answer(sent[0]["status"], body_sent)
