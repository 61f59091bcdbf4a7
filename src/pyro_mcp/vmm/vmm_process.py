"""A VMM's process in its sandbox, behind its gate: one that dies with us, or one that outlives us."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pyro_mcp.process import Detached, Process, Tail, spawn, spawn_detached
from pyro_mcp.start_gate import StartGate, behind
from pyro_mcp.vmm import cgroup
from pyro_mcp.vmm.confine import Sandbox, confined

_CONSOLE_BYTES = 64 * 1024
_GONE_SECONDS = 5.0
_ENVIRONMENT = {"PATH": os.defpath, "LANG": "C.UTF-8"}  # nothing of the user's


@dataclass(frozen=True)
class Program:
    """A VMM to start: its arguments, as they read inside the sandbox, and what it is given.

    Without a sandbox, on hosts that allow none, `folder` is its working directory. `group` names its control group, and
    `mem_mib` is its guest's memory in MiB.
    """

    argv: Sequence[str]
    fds: Sequence[int]
    limits: Mapping[int, int]
    sandbox: Sandbox | None
    group: str
    mem_mib: int
    folder: Path = Path("/")

    def command(self) -> list[str]:
        """The whole command line."""
        if self.sandbox is None:
            return behind(self.argv)
        return confined(self.argv, self.sandbox, gated=True)


@asynccontextmanager
async def running(program: Program) -> AsyncIterator[tuple[Process, Tail]]:
    """Start it; with the process comes the end of what it prints. Nothing of it is left after the block."""
    output, output_writer = os.pipe()
    tail = Tail(output, _CONSOLE_BYTES)
    gate = StartGate()
    try:
        with cgroup.joining(program.group, program.mem_mib) as join:
            process = spawn(
                program.command(),
                env=_ENVIRONMENT,
                cwd=program.folder,
                pass_fds=program.fds,
                stdin=gate.inner.fileno(),
                stdout=output_writer,
                stderr=output_writer,
                limits=program.limits,
                join=join,
                # Not before bubblewrap asks for that: its inner half cannot end while it waits for the outer one.
                dies_with_us=program.sandbox is None,
            )
    except BaseException:
        gate.close()
        tail.finish()
        cgroup.remove(program.group)
        raise
    finally:
        os.close(output_writer)
    try:
        with gate:
            await gate.pass_through(lambda: process.exit_code is None)
        yield process, tail
    finally:
        await asyncio.shield(_end(process, tail, program.group))


def start_kept(program: Program, log_fd: int, before_start: Callable[[Detached], None]) -> Detached:
    """Start one that outlives us; see `process.spawn_detached`. What it prints goes to `log_fd`. Blocks.

    Its control group is to be removed by whoever sees its end.
    """
    with cgroup.joining(program.group, program.mem_mib) as join:
        return spawn_detached(
            program.command(),
            env=_ENVIRONMENT,
            cwd=program.folder,
            pass_fds=program.fds,
            output=log_fd,
            limits=program.limits,
            join=join,
            before_start=before_start,
        )


def text_of(tail: Tail) -> Callable[[], str]:
    """What tells the end of what was printed so far."""
    return lambda: tail.data.decode(errors="replace")


async def _end(process: Process, tail: Tail, group: str) -> None:
    """Kill a VMM and wait until nothing of it is left.

    The process that we started may be the sandbox around the VMM, which the kernel kills next; its output pipe tells
    when the last process that held it is gone.
    """
    process.kill_group()  # of a sandbox that is being set up both halves have to be killed
    await process.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_GONE_SECONDS):
            await tail.closed.wait()
    tail.finish()
    await asyncio.to_thread(cgroup.remove, group)
