"""Where the files of workspaces are, all below PYRO_HOME/workspaces, for its owner alone.

    ID/seed.sqfs     what went into it at its creation; never changes
       disk-*.ext4   its disk, or the one that its last reset replaced: its record tells which is which
       vmm/          what belongs to its VMM while that runs: the sockets of its agent, for one
       no-seed-yet   only of a machine that no workspace has claimed (see `unclaimed`): what its VMM takes for the seed
       vmm.json      only of such a machine: its VMM's process, which no record names

A new disk gets a name that no disk has ever had, and the record says which one counts. So no file is ever renamed or
written over, whoever removes a disk means that very one, and a kill at any moment leaves at worst a file that no record
names.
"""

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyro_mcp.errors import HostUnfit
from pyro_mcp.images.store import disk_usage, file_usage
from pyro_mcp.workspace.database import no_space
from pyro_mcp.workspace.record import WorkspaceRecord

FIRST_DISK = "disk-1.ext4"
_SEED = "seed.sqfs"
_VMM = "vmm"
_UNCLAIMED = "no-seed-yet"
_UNCLAIMED_VMM = "vmm.json"


@dataclass(frozen=True)
class Places:
    """The files of the workspaces of one PYRO_HOME."""

    home: Path

    def folder(self, workspace_id: str) -> Path:
        """A workspace's folder."""
        return self.home / "workspaces" / workspace_id

    def seed(self, workspace_id: str) -> Path:
        """The image of its seed."""
        return self.folder(workspace_id) / _SEED

    def vmm_folder(self, workspace_id: str) -> Path:
        """Where its VMM works."""
        return self.folder(workspace_id) / _VMM

    def fresh_vmm_folder(self, workspace_id: str) -> Path:
        """The same, empty, for a VMM that is about to start. Raises `HostUnfit`."""
        folder = self.vmm_folder(workspace_id)
        with _explained(self.home, folder):
            self.remove_vmm_folder(workspace_id)
            folder.mkdir(mode=0o700)
        return folder

    def remove_vmm_folder(self, workspace_id: str) -> None:
        """Remove what a VMM that has ended left; what cannot be removed now goes before the next one starts."""
        shutil.rmtree(self.vmm_folder(workspace_id), ignore_errors=True)

    def disk(self, record: WorkspaceRecord) -> Path:
        """Its disk."""
        return self.folder(record.workspace_id) / record.disk

    def has_disk(self, workspace_id: str, disk: str) -> bool:
        """Whether that disk is there: a record may name one that is not, once its removal was cut short."""
        return (self.folder(workspace_id) / disk).exists()

    def no_seed_yet(self, workspace_id: str) -> Path:
        """The file that tells the folder of a machine that nobody has claimed."""
        return self.folder(workspace_id) / _UNCLAIMED

    def unclaimed_vmm(self, workspace_id: str) -> Path:
        """The file that names the VMM of a machine that nobody has claimed."""
        return self.folder(workspace_id) / _UNCLAIMED_VMM

    def unclaimed(self) -> set[str]:
        """The ids whose folders are those of unclaimed machines, or have nothing in them. Raises `HostUnfit`."""
        return {each for each in self.ids() if self._is_unclaimed(each)}

    def ids(self) -> set[str]:
        """The names of all folders that are there, whether a record knows them or not. Raises `HostUnfit`."""
        folder = self.home / "workspaces"
        with _explained(self.home, folder):
            return set(os.listdir(folder)) if folder.is_dir() else set()

    def make(self, workspace_id: str) -> None:
        """Make its folder. Raises `HostUnfit`."""
        folder = self.folder(workspace_id)
        with _explained(self.home, folder):
            folder.parent.mkdir(mode=0o700, exist_ok=True)
            folder.mkdir(mode=0o700)

    def remove(self, workspace_id: str) -> int:
        """Remove its folder with all in it; returns the bytes that it took on disk. Raises `HostUnfit`.

        The mark of an unclaimed machine goes last, so that what is left where this is cut short is known for one, too.
        """
        folder = self.folder(workspace_id)
        freed = self.folder_bytes(workspace_id)
        with _explained(self.home, folder):
            for path in folder.iterdir() if folder.exists() else ():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path.name != _UNCLAIMED:
                    path.unlink()
            if folder.exists():
                shutil.rmtree(folder)
        return freed

    def remove_disk(self, workspace_id: str, disk: str) -> int:
        """Remove one disk, if it is there; returns the bytes that it took on disk. Raises `HostUnfit`."""
        freed = self.disk_bytes(workspace_id, disk)
        path = self.folder(workspace_id) / disk
        with _explained(self.home, path):
            path.unlink(missing_ok=True)
        return freed

    def folder_bytes(self, workspace_id: str) -> int:
        """What its folder takes on disk."""
        return disk_usage(self.folder(workspace_id))

    def disk_bytes(self, workspace_id: str, disk: str) -> int:
        """What one of its disks takes on disk."""
        return disk_usage(self.folder(workspace_id) / disk)

    def used_bytes(self, record: WorkspaceRecord) -> int:
        """What a workspace takes on disk."""
        files = [_SEED, *record.disks]
        # In plain strings: a listing asks this of every workspace, and paths take longer to make than to look at.
        folder = f"{self.home}/workspaces/{record.workspace_id}"
        return sum(file_usage(f"{folder}/{name}") for name in files)

    def sweep(self, record: WorkspaceRecord, *, runs: bool) -> None:
        """Remove the files in its folder that nobody names, left by something that was killed."""
        if not runs:
            self.remove_vmm_folder(record.workspace_id)
        named = {_SEED, _VMM, *record.disks}
        folder = self.folder(record.workspace_id)
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name not in named:
                path.unlink()

    def _is_unclaimed(self, workspace_id: str) -> bool:
        try:
            names = os.listdir(self.folder(workspace_id))
        except OSError:  # no folder, or not ours
            return False
        return not names or _UNCLAIMED in names


def new_disk() -> str:
    """A name that no disk of any workspace has, or has had; it tells when it was made."""
    return f"disk-{time.time_ns():020}-{secrets.token_hex(4)}.ext4"


def is_newer(disk: str, than: str) -> bool:
    """Whether a disk was made after another one of its workspace."""
    return disk != FIRST_DISK and (than == FIRST_DISK or disk > than)


@contextlib.contextmanager
def _explained(home: Path, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_space(path, home) from error
        why = error.strerror or str(error)
        raise HostUnfit("home_unusable", f"cannot use {path} (see PYRO_HOME): {why}", "pyro doctor") from error
