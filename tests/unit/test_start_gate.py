"""Programs that wait behind a gate."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from pyro_mcp.process import Process, spawn
from pyro_mcp.start_gate import StartGate, behind


def _touch(mark: Path, gate: StartGate) -> Process:
    return spawn(behind(["touch", str(mark)]), stdin=gate.inner.fileno())


async def test_the_program_starts_when_the_gate_opens(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with StartGate() as gate:
        process = _touch(mark, gate)
        await asyncio.sleep(0.1)  # more than the program would take
        assert not mark.exists()
        assert await gate.pass_through(lambda: process.exit_code is None)
    assert await process.close() == 0
    assert mark.exists()


async def test_the_program_reads_nothing_of_the_gates_and_keeps_its_arguments() -> None:
    with StartGate() as gate:
        process = spawn(
            behind(["sh", "-c", 'test "$1" = "a b" && ! read -r line', "sh", "a b"]), stdin=gate.inner.fileno()
        )
        assert await gate.pass_through(lambda: True)
        assert await process.close() == 0


@pytest.mark.parametrize("blocking", [True, False])
async def test_nobody_passes_when_the_outermost_process_is_gone(tmp_path: Path, blocking: bool) -> None:
    mark = tmp_path / "mark"
    with StartGate() as gate:
        process = _touch(mark, gate)
        passed = (
            await asyncio.to_thread(gate.pass_blocking, lambda: False)
            if blocking
            else await gate.pass_through(lambda: False)
        )
    assert not passed
    assert await process.close() == 1
    assert not mark.exists()


async def test_a_gate_that_is_closed_ends_what_waits(tmp_path: Path) -> None:
    gate = StartGate()
    process = _touch(tmp_path / "mark", gate)
    gate.close()
    assert await process.close() != 0  # it is told so when it reads, or killed when it speaks
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("blocking", [True, False])
async def test_a_sandbox_that_ends_first_is_told(blocking: bool) -> None:
    with StartGate() as gate:
        process = spawn(["true"], stdin=gate.inner.fileno(), stdout=subprocess.DEVNULL)
        alive = lambda: process.exit_code is None  # noqa: E731
        passed = await asyncio.to_thread(gate.pass_blocking, alive) if blocking else await gate.pass_through(alive)
    assert not passed
    await process.close()
