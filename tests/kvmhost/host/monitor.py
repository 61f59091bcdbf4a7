"""What QEMU's monitor tells of a machine whose kernel stands still."""

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

_SAMPLES = 5
_BETWEEN_SAMPLES_SECONDS = 0.3
_ALL_SECONDS = 30.0  # a QEMU that stands still itself does not answer
_LOOK = ("x/24i $pc", "x/64gx $rsp", "info lapic")  # an interrupt that is pending there was lost


async def take_evidence(channel: socket.socket, processors: int, silent: int, file: Path) -> None:
    """Write to `file` where the processors are, several times, and what is there; or how far that went.

    The kernel is loaded where it was linked to be, so /proc/kallsyms of any such machine has the names.
    """
    with file.open("w") as out:
        out.write(f"processor {silent} was not heard any more\n")
        try:
            async with asyncio.timeout(_ALL_SECONDS):
                await _take(channel, processors, out.write)
        except (TimeoutError, OSError, EOFError, ValueError) as error:
            out.write(f"QEMU's monitor does not answer: {error!r}\n")


async def _take(channel: socket.socket, processors: int, write: Callable[[str], object]) -> None:
    reader, writer = await asyncio.open_connection(sock=channel, limit=1 << 20)
    try:
        monitor = Monitor(reader, writer)
        await monitor.execute("qmp_capabilities")
        for _ in range(_SAMPLES):
            write(await _sample(monitor, processors))
            await asyncio.sleep(_BETWEEN_SAMPLES_SECONDS)
    finally:
        writer.close()


async def _sample(monitor: "Monitor", processors: int) -> str:
    """Stopped meanwhile: the registers of a processor that runs translated code are not all in their place."""
    await monitor.execute("stop")
    said = [await monitor.human("info registers -a")]
    for number in range(processors):
        said += [f"processor {number}: {line}\n{await monitor.human(line, number)}" for line in _LOOK]
    await monitor.execute("cont")
    return "\n".join([*said, "-" * 80, ""])


class Monitor:
    """A connection that speaks QMP (QEMU's docs/interop/qmp-spec): one JSON object a line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def human(self, line: str, processor: int = 0) -> str:
        """What the monitor for people answers, asked about one processor."""
        said = await self.execute("human-monitor-command", **{"command-line": line, "cpu-index": processor})
        return str(said).replace("\r\n", "\n")

    async def execute(self, command: str, **arguments: object) -> Any:
        """Have a command executed; what it returns. Raises `EOFError` where QEMU is gone."""
        self._writer.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while line := await self._reader.readline():
            answer = json.loads(line)
            if "error" in answer:
                raise ValueError(answer["error"])
            if "return" in answer:  # and not the greeting, or an event
                return answer["return"]
        raise EOFError("QEMU has ended")
