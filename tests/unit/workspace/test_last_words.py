"""A guest that is lost while it is used: the error tells how its machine ended."""

import pytest

from pyro_mcp.errors import GuestFailed
from pyro_mcp.process import Process, spawn
from pyro_mcp.vmm.machine import Machine
from pyro_mcp.workspace import last_words
from pyro_mcp.workspace.last_words import told_if_lost


async def _told(process: Process, said: str) -> GuestFailed:
    async def never() -> None:
        raise AssertionError("nobody connects")

    machine = Machine("fake", process, never, lambda: said)  # type: ignore[arg-type]
    try:
        with pytest.raises(GuestFailed) as caught:
            async with told_if_lost(machine):
                raise GuestFailed("guest_gone", "the guest went away", "try again")
    finally:
        await process.stop()
    return caught.value


@pytest.mark.parametrize(
    ("script", "how"),
    [("exit 3", "its VMM ended with exit code 3"), ("kill -9 $$", "its VMM was killed by signal 9")],
)
async def test_a_machine_that_ended_is_told_of_with_its_last_words(script: str, how: str) -> None:
    error = await _told(spawn(["sh", "-c", script]), "a shutdown of the processor\n")
    assert (error.code, error.hint) == ("guest_gone", "try again")
    assert error.message.startswith(f"the guest went away ({how})")
    assert error.message.endswith("  | a shutdown of the processor")


async def test_a_machine_that_runs_is_not_said_to_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_words, "_END_SECONDS", 0.05)
    error = await _told(spawn(["sleep", "1000"]), "all is well")
    assert error.message == "the guest went away"
