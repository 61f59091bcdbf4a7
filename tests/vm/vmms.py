"""Which VMMs of workspaces live on this host."""

from pathlib import Path

from tests.support.descriptors import opened
from tests.vm.pyro_command import VMM, named


def vmms_of(home: Path) -> set[int]:
    """The processes of workspaces' VMMs of one PYRO_HOME, known by the disks that they have open."""
    processes = {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    return {pid for pid in named(processes, VMM) if has_open(pid, home / "workspaces")}


def has_open(pid: int, folder: Path) -> bool:
    """Whether a process has a file below a folder open; one that ended while we looked has none."""
    try:
        return any(file.startswith(f"{folder}/") for file in opened(pid).values())
    except OSError:
        return False
