"""`make bench-kvm`: what machines cost under Firecracker, against the bare boot below it, in one run.

Not collected with the tests: it takes its time, and asserts none.
"""

import json
import os
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pyro_mcp.config import Settings
from pyro_mcp.images import store
from pyro_mcp.images.store import Store
from pyro_mcp.runtime.bundle import RuntimeBundle
from pyro_mcp.vmm import firecracker_config
from pyro_mcp.vmm.firecracker import FirecrackerDriver
from pyro_mcp.vmm.machine import MachineSpec
from pyro_mcp.workspace.host import Host, default_boot_slots
from pyro_mcp.workspace.template_stages import WAITING
from pyro_mcp.workspace.templates import Templates
from tests.bench.bare import build_initramfs
from tests.bench.beginnings import copied_spec, seconds_to_answer
from tests.bench.memory import idle_workspaces
from tests.bench.report import Ratio, print_table
from tests.vm.pyro_command import PyroCommand

_ROUNDS = 7
_MEM_MIB = 1024  # what `pyro run` gives


async def test_run_against_a_bare_boot(pyro: PyroCommand, bundle: RuntimeBundle, tmp_path: Path) -> None:
    images = Store(Settings.from_environment(pyro.environment).cache_dir)
    booting = PyroCommand(tmp_path / "booting", {"PYRO_TEMPLATES": "off"})
    with await store.open_verified(images, "debian:12") as image:
        bare = BareFirecracker(bundle, image.path, tmp_path)
        for command in (pyro, booting):
            command("run", "debian:12", "--", "true")  # a daemon runs from here on, and the template is there
        bare.boot()
        rounds = [(timed_run(pyro), timed_run(booting), bare.boot()) for _ in range(_ROUNDS)]
    booting.client.stop()
    copied, booted, theirs = zip(*rounds, strict=True)
    print()
    print_table(
        [
            Ratio("pyro run -- true / bare Firecracker boot", tuple(run.seconds for run in copied), theirs, 1.25),
            Ratio("the same without templates", tuple(run.seconds for run in booted), theirs, None),
        ]
    )
    print_phases("from a template", copied)
    print_phases("booting", booted)


def test_what_idle_workspaces_take(pyro: PyroCommand) -> None:
    print()
    print_table([idle_workspaces(pyro.client.settings)])


async def test_a_restore_against_a_cold_boot(bundle: RuntimeBundle, tmp_path: Path) -> None:
    images = Store(Settings.from_environment(PyroCommand(tmp_path).environment).cache_dir)
    templates = Templates(images.cache_dir / "templates")
    driver = FirecrackerDriver(bundle.firecracker, tmp_path / "vmms")
    host = Host(images, bundle, driver, default_boot_slots(), templates=templates)
    restored, booted = [], []
    with await store.open_verified(images, "debian:12") as image:
        for _ in range(_ROUNDS):
            # Each with a disk that nobody has used.
            async with copied_spec(host, image.path, WAITING) as spec:
                restored.append(await seconds_to_answer(host, spec))
                booted.append(await seconds_to_answer(host, replace(spec, template=None)))
    print()
    print_table([Ratio("restore to first answer / boot to first answer", tuple(restored), tuple(booted), 0.25)])


class TimedRun:
    """One `pyro run`: its whole time as seen from outside, and its phases in milliseconds."""

    def __init__(self, seconds: float, phases: Sequence[dict[str, object]]) -> None:
        self.seconds = seconds
        self.phases = {str(phase["phase"]): float(str(phase["ms"])) for phase in phases}


def timed_run(pyro: PyroCommand) -> TimedRun:
    began = time.monotonic()
    ended = pyro("run", "debian:12", "--timings", "--json", "--", "true")
    seconds = time.monotonic() - began
    assert ended.exit_code == 0, ended.stderr
    result = json.loads(ended.stdout)
    assert result["vmm"] == "firecracker"
    return TimedRun(seconds, result["timings"]["phases"])


def print_phases(how: str, runs: Sequence[TimedRun]) -> None:
    """The medians of each phase, as docs/performance.md has them."""
    print(f"phases of pyro run, {how} (ms)")
    for name in runs[0].phases:
        print(f"  {name:<12} {statistics.median(run.phases.get(name, 0.0) for run in runs):8.1f}")


class BareFirecracker:
    """The same kernel, root and memory with an init that runs `true` and resets, and Firecracker alone around it."""

    def __init__(self, bundle: RuntimeBundle, image: Path, folder: Path) -> None:
        disk = os.open(folder / firecracker_config.DISK, os.O_RDWR | os.O_CREAT)
        os.ftruncate(disk, 64 << 20)
        os.close(disk)
        initramfs = build_initramfs(bundle, folder)
        spec = MachineSpec(bundle.kernel, initramfs, bundle.modules, image, -1, 1, _MEM_MIB)
        config = json.loads(json.dumps(firecracker_config.configuration(spec, console=False)))
        config["boot-source"]["boot_args"] += " bare=true"
        (folder / "config.json").write_text(json.dumps(config))
        self._folder = folder
        self._command = [str(bundle.firecracker), "--no-api", "--level", "Error", "--config-file", "config.json"]

    def boot(self) -> float:
        """Seconds from its start to its end."""
        (self._folder / "v.sock").unlink(missing_ok=True)
        began = time.monotonic()
        subprocess.run(self._command, cwd=self._folder, stdin=subprocess.DEVNULL, check=True)
        return time.monotonic() - began
