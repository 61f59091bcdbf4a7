"""Machines whose guest is a fake agent: for what happens around a guest that is silent, dies or misbehaves."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from pyro_mcp.images.store import Store
from pyro_mcp.process import spawn
from pyro_mcp.vmm.machine import Machine, MachineSpec
from pyro_mcp.vmm.template import Template, UntilReady
from pyro_mcp.workspace.host import Host
from tests.support.fake_agent import Handler, opened, packet, read_packet, reply, serving, wire_over

Guest = Callable[[socket.socket], Awaitable[None]]


@dataclass
class Boots:
    """What was booted, and what is left of it; `templates` were made, each as `makes` does that."""

    specs: list[MachineSpec] = field(default_factory=list)
    templates: list[MachineSpec] = field(default_factory=list)
    with_console: list[bool] = field(default_factory=list)
    alive: int = 0
    most_alive: int = 0
    guests: list[Guest] = field(default_factory=list)
    makes: "Callable[[Template, UntilReady], Awaitable[None]]" = field(default_factory=lambda: make)


@dataclass(frozen=True)
class FakeDriver:
    """Boots one guest after the other from `boots.guests`, the last one again and again."""

    boots: Boots
    said: str = ""
    console: bool = False
    name: str = "fake"
    of_shape: str = ""

    def with_console(self) -> "FakeDriver":
        """See `Driver.with_console`."""
        return replace(self, console=True)

    def shape(self, spec: MachineSpec) -> str:
        """See `Driver.shape`."""
        assert not spec.durable, "no template depends on that"
        return f"{spec.vcpu_count} {spec.mem_mib} {self.of_shape}"

    async def make_template(self, spec: MachineSpec, folder: Path, until_ready: UntilReady) -> None:
        """See `Driver.make_template`."""
        os.fstat(spec.disk_fd)
        self.boots.templates.append(spec)
        await self.boots.makes(Template(folder), until_ready)

    @asynccontextmanager
    async def boot(self, spec: MachineSpec) -> AsyncIterator[Machine]:
        """See `Driver.boot`."""
        boots = self.boots
        guest = boots.guests[min(len(boots.specs), len(boots.guests) - 1)]
        boots.specs.append(spec)
        boots.with_console.append(self.console)
        assert spec.image.exists()
        os.fstat(spec.disk_fd)
        ours, theirs = socket.socketpair()
        process = spawn(["sleep", "1000"])
        boots.alive += 1
        boots.most_alive = max(boots.most_alive, boots.alive)
        running = asyncio.ensure_future(guest(theirs))
        try:
            yield Machine(self.name, process, opened(ours), lambda: self.said)
        finally:
            boots.alive -= 1
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            ours.close()
            theirs.close()
            await process.stop()


async def make(template: Template, until_ready: UntilReady) -> None:
    """Make a template of a guest that waits to be told what machine it is."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        running = asyncio.ensure_future(waiting([])(theirs))
        await until_ready(opened(ours))
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    template.state.write_text("the state")
    template.memory.write_text("the memory")


async def silent(_end: socket.socket) -> None:
    """A guest that hangs."""
    await asyncio.Future()


async def dead(end: socket.socket) -> None:
    """A guest that ends before it has said a word."""
    end.close()


def answering(handler: Handler) -> Guest:
    """A guest whose agent hands each stream to `handler`."""

    async def guest(end: socket.socket) -> None:
        async with serving(end, handler):
            await asyncio.Future()

    return guest


def waiting(told: list[Any]) -> Guest:
    """A guest that waits to be told what machine it is; `told` is what it was told with each session's start."""

    async def guest(end: socket.socket) -> None:
        async with wire_over(end) as wire:
            _, nonce, _ = await read_packet(wire.reader)
            wire.writer.write(reply(nonce, boot_id=None))
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while (packet_of := await read_packet(wire.reader))[0] != b"S":
                    if packet_of[0] == b"P":
                        wire.writer.write(packet(b"D", nonce, {}))
                told.append(packet_of[2])
                wire.writer.write(packet(b"A", nonce, {}))
            await asyncio.Future()

    return guest


def fake_host(folder: Path, boots: Boots, *, slots: int = 4, said: str = "") -> Host:
    """A host whose driver is fake; everything else that a boot touches is in `folder`."""
    return Host(
        images=Store(folder),
        bundle=cast("object", SimpleNamespace(kernel="/k", initramfs="/i", modules="/m", digest="d")),  # type: ignore[arg-type]
        driver=FakeDriver(boots, said=said),  # type: ignore[arg-type]
        boot_slots=asyncio.Semaphore(slots),
    )
