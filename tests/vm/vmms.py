"""Which VMMs of workspaces live on this host."""

from pathlib import Path

from tests.vm.pyro_command import VMM, named


def vmms_of(home: Path) -> set[int]:
    """The processes of workspaces' VMMs of one PYRO_HOME, known by the disks that they have open."""
    processes = {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    disks = f"{home}/workspaces/"
    return {pid for pid in named(processes, VMM) if any(file.startswith(disks) for file in _open_paths(pid))}


def _open_paths(pid: int) -> list[str]:
    try:
        return [str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return []  # it ended while we looked
