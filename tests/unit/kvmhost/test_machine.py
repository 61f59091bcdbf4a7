"""The test host's machine, with another program in QEMU's place: how its life ends, and what is told of a freeze."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.kvmhost.host import machine, monitor
from tests.kvmhost.host.machine import EVIDENCE, Ending, Parts
from tests.support.fake_emulator import fake_qemu

_LONG_SECONDS = 60.0
_SILENCE_SECONDS = 1.0


@dataclass
class Host:
    """Where the machine's program and its folder are."""

    bin: Path
    parts: Parts
    output: bytearray = field(default_factory=bytearray)

    async def run(self, beats: int, afterwards: str, *, seconds: float, silence_seconds: float) -> Ending:
        """Run a machine that has a pulse for some time."""
        fake_qemu(self.bin, beats, afterwards)
        return await machine.run(self.parts, self.output.extend, seconds, silence_seconds)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    (tmp_path / "bin").mkdir()
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    parts = Parts(Path("kernel"), Path("initramfs"), {"root": Path("root")}, Path("scratch"), tmp_path / "run")
    return Host(tmp_path / "bin", parts)


async def test_a_machine_that_turns_itself_off(host: Host) -> None:
    assert await host.run(3, "off", seconds=_LONG_SECONDS, silence_seconds=_LONG_SECONDS) is Ending.TURNED_OFF
    assert host.output == b"booted\n"
    assert not (host.parts.folder / EVIDENCE).exists()


async def test_a_machine_whose_tests_hang_has_a_pulse_until_its_time_is_up(host: Host) -> None:
    ending = await host.run(100_000, "off", seconds=1.0, silence_seconds=_LONG_SECONDS)
    assert ending is Ending.OUT_OF_TIME
    assert not (host.parts.folder / EVIDENCE).exists()


@pytest.mark.parametrize("beats", [0, 3])
async def test_a_kernel_that_stands_still(host: Host, beats: int) -> None:
    ending = await host.run(beats, "freeze", seconds=_LONG_SECONDS, silence_seconds=_SILENCE_SECONDS)
    assert ending is Ending.FROZEN
    evidence = (host.parts.folder / EVIDENCE).read_text()
    assert evidence.startswith("processor 0 was not heard any more\n")
    assert evidence.count("told of info registers -a") == 5
    for number in range(machine.VCPUS):
        assert f"processor {number}: x/24i $pc\ntold of x/24i $pc" in evidence


async def test_a_machine_that_says_nothing_at_all(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "_ALL_SECONDS", 0.5)
    ending = await host.run(0, "deaf", seconds=_LONG_SECONDS, silence_seconds=_SILENCE_SECONDS)
    assert ending is Ending.FROZEN
    assert "does not answer" in (host.parts.folder / EVIDENCE).read_text()
