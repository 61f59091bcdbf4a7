"""`make bench-kvm`: what `pyro run` costs under Firecracker, against the bare boot below it, in one run.

Not collected with the tests: it takes its time, and asserts none.
"""

import json
import os
import subprocess
import time
from pathlib import Path

from pyro_mcp.config import Settings
from pyro_mcp.images import store
from pyro_mcp.images.store import Store
from pyro_mcp.runtime.bundle import RuntimeBundle
from pyro_mcp.vmm import firecracker_config
from pyro_mcp.vmm.machine import MachineSpec
from tests.bench.bare import build_initramfs
from tests.bench.report import Ratio, print_table
from tests.vm.pyro_command import PyroCommand

_ROUNDS = 7
_MEM_MIB = 1024  # what `pyro run` gives


async def test_run_against_a_bare_boot(pyro: PyroCommand, bundle: RuntimeBundle, tmp_path: Path) -> None:
    images = Store(Settings.from_environment(pyro.environment).cache_dir)
    with await store.open_verified(images, "debian:12") as image:
        bare = BareFirecracker(bundle, image.path, tmp_path)
        pyro("run", "debian:12", "--", "true")  # a daemon runs from here on
        bare.boot()
        pairs = [(seconds_of_run(pyro), bare.boot()) for _ in range(_ROUNDS)]
    ours, theirs = zip(*pairs, strict=True)
    print()
    print_table([Ratio("pyro run -- true / bare Firecracker boot", ours, theirs, 1.25)])


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


def seconds_of_run(pyro: PyroCommand) -> float:
    began = time.monotonic()
    ended = pyro("run", "debian:12", "--", "true")
    seconds = time.monotonic() - began
    assert ended.exit_code == 0, ended.stderr
    assert "vmm=firecracker" in ended.stderr
    return seconds
