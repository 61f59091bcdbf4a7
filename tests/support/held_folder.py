"""A VMM's folder that another process has, as a doctor's beside a daemon."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HOLD = """
import subprocess, sys
from pathlib import Path
from pyro_mcp.vmm.own_folder import own_folder

with own_folder(Path(sys.argv[1])) as folder:
    (folder / "below").mkdir()
    (folder / "below" / "file").write_text("in use")
    # It has whatever may be inherited, as a VMM has for the moment that it outlives its owner.
    with subprocess.Popen(["sleep", "1000"], close_fds=False, stdout=subprocess.DEVNULL) as child:
        print(folder, child.pid, flush=True)
        sys.stdin.read()
        child.kill()
"""


class Holder:
    """A process that has `folder` until it is told to let go or killed, and a child of it, which lives on then."""

    def __init__(self, run_dir: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _HOLD, str(run_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        folder, _, child = self.process.stdout.readline().rpartition(" ")
        self.folder, self.child = Path(folder), int(child)

    def let_go(self) -> None:
        """Have it leave its block."""
        self.process.communicate(timeout=30)

    def kill(self) -> None:
        """End it with nothing cleaned up."""
        self.process.kill()
        self.process.communicate(timeout=30)


@contextmanager
def held_by_another(run_dir: Path) -> Iterator[Holder]:
    """A folder below `run_dir` that another process has; nothing of that one is left after the block."""
    holder = Holder(run_dir)
    try:
        yield holder
    finally:
        if holder.process.poll() is None:
            holder.let_go()
        with contextlib.suppress(ProcessLookupError):
            os.kill(holder.child, signal.SIGKILL)
