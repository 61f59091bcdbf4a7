"""Where the files of workspaces are, all below PYRO_HOME/workspaces, for its owner alone.

    ID/seed.sqfs     what went into it at its creation; never changes
       disk-N.ext4   its disk, or the one that its last reset replaced: its record tells which is which
       agent.sock    where its VMM listens while it runs

A new disk gets a new name, and the record says which one counts. So no file is ever renamed or written over, and a kill
at any moment leaves at worst a file that no record names.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from pyro_mcp.images.store import disk_usage
from pyro_mcp.workspace.record import WorkspaceRecord

FIRST_DISK = "disk-1.ext4"
_SEED = "seed.sqfs"
_SOCKET = "agent.sock"


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

    def socket(self, workspace_id: str) -> Path:
        """Where its agent is reached."""
        return self.folder(workspace_id) / _SOCKET

    def disk(self, record: WorkspaceRecord) -> Path:
        """Its disk."""
        return self.folder(record.workspace_id) / record.disk

    def make(self, workspace_id: str) -> None:
        """Make its folder."""
        folder = self.folder(workspace_id)
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700)

    def remove(self, workspace_id: str) -> int:
        """Remove its folder with all in it; returns the bytes that it took on disk."""
        folder = self.folder(workspace_id)
        freed = self.folder_bytes(workspace_id)
        if folder.exists():
            shutil.rmtree(folder)
        return freed

    def remove_disk(self, workspace_id: str, disk: str) -> int:
        """Remove one disk, if it is there; returns the bytes that it took on disk."""
        freed = self.disk_bytes(workspace_id, disk)
        (self.folder(workspace_id) / disk).unlink(missing_ok=True)
        return freed

    def folder_bytes(self, workspace_id: str) -> int:
        """What its folder takes on disk."""
        return disk_usage(self.folder(workspace_id))

    def disk_bytes(self, workspace_id: str, disk: str) -> int:
        """What one of its disks takes on disk."""
        return disk_usage(self.folder(workspace_id) / disk)

    def used_bytes(self, record: WorkspaceRecord) -> int:
        """What a workspace takes on disk."""
        files = [_SEED, record.disk, *([record.kept.disk] if record.kept else [])]
        return sum(disk_usage(self.folder(record.workspace_id) / name) for name in files)

    def sweep(self, record: WorkspaceRecord) -> None:
        """Remove the files in its folder that nobody names, left by something that was killed."""
        named = {_SEED, _SOCKET, record.disk, *([record.kept.disk] if record.kept else [])}
        folder = self.folder(record.workspace_id)
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name not in named:
                path.unlink()


def next_disk(record: WorkspaceRecord) -> str:
    """A name for a disk that the workspace does not have yet."""
    taken = [record.disk, *([record.kept.disk] if record.kept else [])]
    return f"disk-{max(int(name.removeprefix('disk-').removesuffix('.ext4')) for name in taken) + 1}.ext4"
