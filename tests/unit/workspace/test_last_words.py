"""A guest that is lost while it is used: the error tells how its machine ended."""

import pytest

from pyro_mcp.errors import GuestFailed
from pyro_mcp.guest.mux import StreamReset
from pyro_mcp.guest.violation import ProtocolViolation
from pyro_mcp.process import Process, spawn
from pyro_mcp.vmm.machine import Machine
from pyro_mcp.workspace import last_words
from pyro_mcp.workspace.last_words import explained, told_if_lost

# What Firecracker 1.12.1 logged of machines that were restored and whose guest then panicked, or did not boot.
_PANICKED = """\
2026-11-28T20:59:55.001878553 [anonymous-instance:main] Snapshot CPU vendor ID: [65, 117, 116, 104, 101, 110, 116]
2026-11-28T20:59:55.070688351 [anonymous-instance:main] Artificially kick devices.
2026-11-28T20:59:55.074799872 [anonymous-instance:main] kick block image.
2026-11-28T20:59:55.075044013 [anonymous-instance:main] kick vsock vsock.
2026-11-28T20:59:55.076673424 [anonymous-instance:main] kick entropy rng.
2026-11-28T20:59:55.077424356 [anonymous-instance:main] kick balloon balloon.
2026-11-28T20:59:55.086514464 [anonymous-instance:main] [DevPreview] Virtual machine snapshots is in development \
preview - 'load snapshot' VMM action took 137862 us.
2026-11-28T20:59:55.088727627 [anonymous-instance:fc_api] The request was executed successfully. \
Status code: 204 No Content.
2026-11-28T20:59:55.089486178 [anonymous-instance:fc_api] 'load snapshot' API request took 154028 us.
2026-11-28T20:59:56.032789822 [anonymous-instance:main] Vmm is stopping.
2026-11-28T20:59:56.037515051 [anonymous-instance:fc_vcpu 0] Requested a vCPU run with immediate_exit enabled. \
The operation was skipped
2026-11-28T20:59:56.046793168 [anonymous-instance:main] Vmm is stopping.
2026-11-28T20:59:56.144840968 [anonymous-instance:main] Firecracker exiting successfully. exit_code=0
"""
_QEMU = "qemu-system-x86_64: warning: TCG doesn't support requested feature: CPUID.07H:EBX.rdseed [bit 18]\n"
_OF_THE_GUEST = """\
[    3.393728] EXT4-fs (vdb): VFS: Can't find ext4 filesystem
[    3.414066] pyro-agent: fatal: mount /dev/vdb (ext4) on /changes: EINVAL: Invalid argument
"""


async def _told(process: Process, said: str, lost: GuestFailed | None = None) -> GuestFailed:
    async def never() -> None:
        raise AssertionError("nobody connects")

    machine = Machine("fake", process, never, lambda: said)  # type: ignore[arg-type]
    try:
        with pytest.raises(GuestFailed) as caught:
            async with told_if_lost(machine):
                raise lost or GuestFailed("guest_gone", "the guest went away", "try again")
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


@pytest.mark.parametrize("routine", [_PANICKED, _QEMU], ids=["firecracker", "qemu"])
async def test_a_guest_that_panics_is_not_told_of_in_the_vmms_routine(routine: str) -> None:
    error = await _told(spawn(["true"]), routine)
    assert error.message == "the guest went away (its VMM ended with exit code 0, as when its guest restarts or panics)"


def test_what_the_guest_said_is_not_pushed_out_by_the_vmms_routine() -> None:
    fault = "2026-11-28T20:59:56.03 [anonymous-instance:fc_vcpu 0] Received KVM_EXIT_SHUTDOWN signal"
    error = explained(GuestFailed("guest_gone", "gone"), f"{_OF_THE_GUEST}{fault}\n{_PANICKED}")
    told = [f"  | {line}" for line in (*_OF_THE_GUEST.splitlines(), fault)]
    assert error.message.splitlines() == ["gone; the machine's last words:", *told]


@pytest.mark.parametrize("script", ["exit 1", "exec sleep 1000"], ids=["with its machine", "alone"])
async def test_a_guest_that_went_away_is_no_workspaces(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(last_words, "_END_SECONDS", 5 if "exit" in script else 0.05)
    error = await _told(spawn(["sh", "-c", script]), "", StreamReset("its channel was closed"))
    assert error.code == "guest_gone"
    assert "workspace" not in str(error.hint)
    assert str(error.hint).startswith("try again")


async def test_what_else_a_guest_does_keeps_its_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_words, "_END_SECONDS", 0.05)
    broken = ProtocolViolation("a frame too long")
    assert await _told(spawn(["sleep", "1000"]), "", broken) is broken
