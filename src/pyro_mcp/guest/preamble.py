"""The handshake that opens a session with the guest's agent (protocol/README.md, "Session preamble").

Bytes of an earlier, broken session may still arrive first, so each side looks for its packet by magic and nonce and
drops everything before it.
"""

import asyncio
import json
import secrets
import struct
from dataclasses import dataclass

from pyro_mcp import models, tasks
from pyro_mcp.errors import GuestFailed, InvalidRequest
from pyro_mcp.guest.identity import Identity
from pyro_mcp.guest.json_text import parsed
from pyro_mcp.guest.violation import ProtocolViolation

GENERATION = 4
NONCE_BYTES = 16
_MAGIC = b"PYRO"
_MAX_PAYLOAD = 4096
_LENGTH = struct.Struct(">I")
_RESEND_SECONDS = 1.0
# A hostile guest must not keep us reading for ever: more stale bytes than any buffer on the way can hold.
_MAX_STALE_BYTES = 16 << 20


@dataclass(frozen=True)
class AgentHello:
    """What the agent says of itself: its protocol generation, its version and the guest kernel's boot id, which is
    None while the guest waits to be told what machine it is."""

    generation: int
    agent_version: str
    boot_id: str | None


def packet(kind: bytes, nonce: bytes, payload: dict[str, object]) -> bytes:
    """One packet of the handshake."""
    body = json.dumps(payload).encode()
    return _MAGIC + kind + nonce + _LENGTH.pack(len(body)) + body


async def handshake(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, identity: Identity | None = None
) -> AgentHello:
    """Agree on a session; the next byte in either direction belongs to the multiplexer.

    A guest that waits to be told what machine it is becomes the one with that `identity`. Set a time limit around this.
    Raises `GuestFailed` when the agent speaks another generation, or waits and there is no identity, and
    `ProtocolViolation` or `ConnectionError` when it speaks rubbish or goes away.
    """
    nonce = secrets.token_bytes(NONCE_BYTES)
    hello = await _met(reader, writer, nonce)
    start: dict[str, object] = {}
    if hello.boot_id is None:
        if identity is None:
            raise GuestFailed("guest_waits", "the guest has not been told what machine it is", "start it again")
        start = {"machine": identity.assignment()}
    writer.write(packet(b"S", nonce, start))
    await writer.drain()
    await _find(reader, b"A", nonce)
    return hello


async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> AgentHello:
    """Find out who is there, and begin nothing. Limits and errors are as for `handshake`."""
    return await _met(reader, writer, secrets.token_bytes(NONCE_BYTES))


async def prepare(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, identity: Identity) -> AgentHello:
    """Have a guest that waits get ready to become the machine with that `identity`, its seed aside; it goes on waiting.

    Limits and errors are as for `handshake`; `GuestFailed`, too, when the guest is a machine already.
    """
    nonce = secrets.token_bytes(NONCE_BYTES)
    hello = await _met(reader, writer, nonce)
    if hello.boot_id is not None:
        raise GuestFailed("guest_begun", "the guest is a machine already", "start it again")
    writer.write(packet(b"P", nonce, {"machine": identity.assignment()}))
    await writer.drain()
    await _find(reader, b"D", nonce)
    return hello


async def _met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, nonce: bytes) -> AgentHello:
    say_hello = asyncio.create_task(_repeat_hello(writer, nonce))
    try:
        hello = _decode_hello(await _find(reader, b"R", nonce))
    finally:
        await tasks.end(say_hello)
    if hello.generation != GENERATION:
        raise GuestFailed(
            "guest_generation",
            f"the guest's agent speaks protocol generation {hello.generation}, this pyro speaks {GENERATION}",
            "use the runtime bundle that came with this pyro",
        )
    return hello


async def _repeat_hello(writer: asyncio.StreamWriter, nonce: bytes) -> None:
    while True:
        writer.write(packet(b"H", nonce, {"generation": GENERATION}))
        await writer.drain()
        await asyncio.sleep(_RESEND_SECONDS)


async def _find(reader: asyncio.StreamReader, kind: bytes, nonce: bytes) -> bytes:
    """Read up to the packet of this kind and nonce and return its payload."""
    wanted = _MAGIC + kind + nonce
    dropped = 0
    while dropped <= _MAX_STALE_BYTES:
        try:
            await reader.readuntil(wanted)
            break
        except asyncio.LimitOverrunError as overrun:
            dropped += overrun.consumed
            await reader.readexactly(overrun.consumed)
    else:
        raise ProtocolViolation("no handshake among the bytes that it sends")
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > _MAX_PAYLOAD:
        raise ProtocolViolation(f"handshake of {length} bytes")
    return await reader.readexactly(length)


def _decode_hello(payload: bytes) -> AgentHello:
    try:
        content = parsed(payload)
        # Another generation may say other things about itself; only the number is sure to be there.
        if isinstance(content, dict) and content.get("generation") != GENERATION:
            content = {"agent_version": "", "boot_id": None, "generation": content.get("generation")}
        return models.decode(AgentHello, content)
    except (ValueError, RecursionError, InvalidRequest) as error:
        raise ProtocolViolation("malformed handshake") from error
