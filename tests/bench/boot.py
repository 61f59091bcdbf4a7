"""`pyro run debian:12 -- true` against a bare QEMU that boots the same kernel and root, runs `true` and ends."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pyro_mcp.config import Settings
from pyro_mcp.daemon.client import DaemonClient
from pyro_mcp.sdk import Pyro
from tests.bench.bare import BareMachine
from tests.bench.report import Ratio

_ROUNDS = 7


def run_against_bare_boot(bare: BareMachine, folder: Path) -> list[Ratio]:
    """Whole processes, wall time, interleaved, with a daemon that runs already: from a template, and booting."""
    copied, created, booted, theirs = [], [], [], []
    with _booting_daemon(folder) as cold:
        for environment in (os.environ, cold):
            _seconds_of_run(environment)  # starts the daemon, and makes the template
        for _ in range(_ROUNDS):
            copied.append(_seconds_of_run(os.environ))
            created.append(_seconds_of_create())
            booted.append(_seconds_of_run(cold))
            theirs.append(_seconds_of_bare_boot(bare))
    yardstick = tuple(theirs)
    return [
        Ratio("pyro run debian:12 -- true / bare boot", tuple(copied), yardstick, 0.25),
        Ratio("the same without templates / bare boot", tuple(booted), yardstick, 1.25),
        Ratio("pyro workspace create debian:12 / bare boot", tuple(created), yardstick, 0.25),
    ]


@contextmanager
def _booting_daemon(folder: Path) -> Iterator[Mapping[str, str]]:
    """The environment of a daemon of its own that boots every machine."""
    environment = {**os.environ, "PYRO_HOME": str(folder / "booting"), "PYRO_TEMPLATES": "off"}
    try:
        yield environment
    finally:
        DaemonClient(Settings.from_environment(environment)).stop()


def _seconds_of_run(environment: Mapping[str, str]) -> float:
    pyro = str(Path(sys.executable).parent / "pyro")
    began = time.perf_counter()
    subprocess.run([pyro, "run", "debian:12", "--", "true"], check=True, stderr=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - began


def _seconds_of_create() -> float:
    """An empty workspace, which is removed again."""
    pyro = str(Path(sys.executable).parent / "pyro")
    began = time.perf_counter()
    made = subprocess.run([pyro, "workspace", "create", "debian:12", "--id-only"], check=True, stdout=subprocess.PIPE)
    seconds = time.perf_counter() - began
    workspace = made.stdout.decode().strip()
    with Pyro() as sdk:
        sdk.delete_workspace(workspace)
        sdk.prune_workspaces(workspace=workspace)
    return seconds


def _seconds_of_bare_boot(bare: BareMachine) -> float:
    """From the start of QEMU to its end; one that hangs in its boot, as untuned ones do, fails the benchmark."""
    began = time.perf_counter()
    with bare.started("true") as (process, _):
        process.wait(timeout=60)
        seconds = time.perf_counter() - began
    assert process.returncode == 0
    return seconds
