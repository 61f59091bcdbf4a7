"""Which VMMs of workspaces live on this host."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.vm.pyro_command import VMM, named


def vmms_of(home: Path) -> set[int]:
    """The processes of workspaces' VMMs of one PYRO_HOME, known by the disks that they have open."""
    processes = {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    disks = f"{home}/workspaces/"
    return {pid for pid in named(processes, VMM) if any(file.startswith(disks) for file in _open_paths(pid))}


def _open_paths(pid: int) -> Iterator[str]:
    with suppress(OSError):  # it ended while we looked
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed while we looked, which says nothing of the others
                yield str(fd.readlink())
