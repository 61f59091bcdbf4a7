"""What QEMU's monitor tells of a machine whose kernel stands still."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

_SAMPLES = 5
_BETWEEN_SAMPLES_SECONDS = 0.3
_ALL_SECONDS = 30.0  # a QEMU that stands still itself does not answer
_LOOK = ("x/24i $pc", "x/64gx $rsp", "info lapic")  # an interrupt that is pending there was lost


class Witness:
    """Looks at where the processors of a machine are, and writes it down.

    The kernel is loaded where it was linked to be, so /proc/kallsyms of any such machine has the names.
    """

    def __init__(self, channel: socket.socket, processors: int, file: Path) -> None:
        self._channel = channel
        self._processors = processors
        self._file = file
        self._monitor: Monitor | None = None

    async def wake(self, silent: int) -> None:
        """Look once, for which the machine is stopped and goes on again: that has been seen to wake one."""
        await self.look(silent, samples=1)

    async def look(self, silent: int, samples: int = _SAMPLES) -> None:
        """Add to the file what is seen, or how far that went."""
        with self._file.open("a") as out:
            out.write(f"processor {silent} was not heard any more\n")
            try:
                async with asyncio.timeout(_ALL_SECONDS):
                    for _ in range(samples):
                        out.write(await _sample(await self._opened(), self._processors))
                        await asyncio.sleep(_BETWEEN_SAMPLES_SECONDS)
            except (TimeoutError, OSError, EOFError, ValueError) as error:
                out.write(f"QEMU's monitor does not answer: {error!r}\n")

    def close(self) -> None:
        """Once it is not needed any more."""
        if self._monitor is not None:
            self._monitor.close()

    async def _opened(self) -> "Monitor":
        if self._monitor is None:
            reader, writer = await asyncio.open_connection(sock=self._channel, limit=1 << 20)
            self._monitor = Monitor(reader, writer)
            await self._monitor.execute("qmp_capabilities")
        return self._monitor


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
        self._asked = 0

    def close(self) -> None:
        """Say goodbye to nobody."""
        self._writer.close()

    async def human(self, line: str, processor: int = 0) -> str:
        """What the monitor for people answers, asked about one processor."""
        said = await self.execute("human-monitor-command", **{"command-line": line, "cpu-index": processor})
        return str(said).replace("\r\n", "\n")

    async def execute(self, command: str, **arguments: object) -> Any:
        """Have a command executed; what it returns. Raises `EOFError` where QEMU is gone."""
        self._asked += 1
        asked = {"execute": command, "arguments": arguments, "id": self._asked}
        self._writer.write(json.dumps(asked).encode() + b"\n")
        while line := await self._reader.readline():
            answer = json.loads(line)
            if answer.get("id") != self._asked:  # the greeting, an event, or what came too late for somebody else
                continue
            if "error" in answer:
                raise ValueError(answer["error"])
            return answer["return"]
        raise EOFError("QEMU has ended")
