"""A disk that is soon full."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """A file system of that size at `folder`, in a namespace of a process that goes away with it; needs no root."""
    folder.mkdir()
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    script = 'mount -t tmpfs -o size=$2m tmpfs "$1" && echo mounted && read -r wait'
    with subprocess.Popen(
        ["unshare", "--mount", *as_root, "sh", "-c", script, "sh", str(folder), str(mebibytes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"mounted\n"
        yield Path(f"/proc/{holder.pid}/root{folder}")
        holder.kill()
