"""How long `pyro workspace list` takes over its own start-up, with many workspaces written down.

The start-up is `pyro workspace list -h`: the interpreter and the command line, without the SDK and a request.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pyro_mcp.config import Settings
from pyro_mcp.workspace.record import BY_USER, STOPPED, WorkspaceRecord
from pyro_mcp.workspace.records import Records
from tests.bench.report import Ratio
from tests.support.daemons import daemon_pid, end_daemon

_WORKSPACES = 200
_ROUNDS = 15
_PROMISED_SECONDS = 0.05


def list_over_start_up() -> Ratio:
    """`workspace list` less `workspace list -h`, one after the other, against what is promised."""
    with tempfile.TemporaryDirectory() as home:
        settings = Settings.from_environment({"PYRO_HOME": f"{home}/state", "PYRO_CACHE_DIR": f"{home}/cache"})
        _write_down(settings.home)
        daemon_pid(settings)
        differences = []
        for _ in range(_ROUNDS):
            whole = _seconds(settings)
            differences.append(whole - _seconds(settings, "-h"))
        end_daemon(settings)
    name = f"workspace list of {_WORKSPACES} over its -h / promised"
    return Ratio(name, tuple(differences), (_PROMISED_SECONDS,) * _ROUNDS, 1.0)


def _write_down(home: Path) -> None:
    """Stopped workspaces, each with a disk file as a new one has: booting two hundred would measure something else."""
    home.mkdir(parents=True)
    records = Records(home)
    for number in range(_WORKSPACES):
        workspace_id = f"w-{number:04d}"
        folder = home / "workspaces" / workspace_id
        folder.mkdir(parents=True)
        with (folder / "disk-1.ext4").open("wb") as disk:
            disk.truncate(8 << 30)
        records.add(
            WorkspaceRecord(
                workspace_id=workspace_id,
                environment="debian:12",
                digest="0" * 64,
                vcpu_count=1,
                mem_mib=1024,
                network_policy="off",
                created_at="2026-01-01T00:00:00+00:00",
                vmm="qemu",
                disk="disk-1.ext4",
                state=STOPPED,
                name=f"workspace-{number}",
                labels={"number": str(number)},
                stopped_because=BY_USER,
            )
        )
    records.close()


def _seconds(settings: Settings, *flags: str) -> float:
    pyro = str(Path(sys.executable).parent / "pyro")
    environment = {"HOME": "/", "PATH": "/usr/bin:/bin", **settings.to_environment()}
    began = time.perf_counter()
    done = subprocess.run([pyro, "workspace", "list", *flags], env=environment, capture_output=True, check=True)
    seconds = time.perf_counter() - began
    if not flags and len(done.stdout.splitlines()) != _WORKSPACES + 1:
        raise RuntimeError(f"not all workspaces were listed: {done.stdout[-200:]!r}")
    return seconds


if __name__ == "__main__":
    from tests.bench.report import print_table

    print_table([list_over_start_up()])
