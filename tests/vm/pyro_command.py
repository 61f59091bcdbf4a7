"""The real `pyro` command in a home of its own, and what it leaves on the host."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from pyro_mcp.config import Settings
from pyro_mcp.daemon.client import DaemonClient
from tests.support.pace import patience

PYRO = str(Path(sys.executable).parent / "pyro")
# Which VMM this host is expected to choose by itself; the test host of scripts/check-kvm says Firecracker.
CHOSEN_VMM = os.environ.get("PYRO_TEST_VMM", "qemu")
VMM = ("qemu-system-x86", "firecracker")  # 15 characters, as the kernel keeps the names of processes
_END_SECONDS = patience(120)
# As it is before any test changes it: guests run from the environments in the user's own cache.
_USERS_ENVIRONMENT = dict(os.environ)


@dataclass(frozen=True)
class Ended:
    """How a command line ended."""

    exit_code: int
    stdout: bytes
    stderr: str


@dataclass(frozen=True)
class PyroCommand:
    """Runs `pyro` with a home of its own; `extra` are further environment variables."""

    home: Path
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {**_USERS_ENVIRONMENT, **self.extra, "PYRO_HOME": str(self.home)}

    @property
    def client(self) -> DaemonClient:
        return DaemonClient(Settings.from_environment(self.environment))

    def start(self, *words: str, **options: object) -> "subprocess.Popen[bytes]":
        """Start a command line; the caller sees to its end."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen([PYRO, *words], env=self.environment, **pipes)  # type: ignore[call-overload, no-any-return]

    def __call__(self, *words: str, stdin: bytes = b"") -> Ended:
        """Run a command line to its end."""
        done = subprocess.run(
            [PYRO, *words], env=self.environment, input=stdin, capture_output=True, timeout=_END_SECONDS, check=False
        )
        return Ended(done.returncode, done.stdout, done.stderr.decode())

    def daemon_pid(self) -> int:
        """The daemon's process id; starts one where there is none."""
        return int(self.client.ask("GET", "/v1/hello")["pid"])


def descendants(pid: int) -> set[int]:
    """All processes below one that live now (a zombie lives no more)."""
    children: dict[int, set[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (parent := _living_parent(entry)) is not None:
            children.setdefault(parent, set()).add(int(entry.name))
    found: set[int] = set()
    pending = [pid]
    while pending:
        below = children.get(pending.pop(), set()) - found
        found |= below
        pending += below
    return found


def named(pids: set[int], names: Collection[str]) -> set[int]:
    """Those of the processes whose program has one of the names (15 characters at most)."""
    return {pid for pid in pids if _command_name(pid) in names}


def open_files(pid: int) -> dict[str, int]:
    """How many descriptors a process has of each kind; numbers that differ between two of a kind are left out."""
    counts: dict[str, int] = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:
            continue
        kind = target.split(":[")[0]
        counts[kind] = counts.get(kind, 0) + 1
    return counts


def files_below(folder: Path) -> dict[str, int]:
    """Every file below a folder and the bytes that it takes on disk; what goes away meanwhile is left out."""
    found: dict[str, int] = {}
    for parent, _, names in os.walk(folder):  # a folder that has gone has nothing in it, where rglob would raise
        for path in (Path(parent, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                found[str(path.relative_to(folder))] = path.lstat().st_blocks * 512
    return found


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Signal one process."""
    os.kill(pid, number)


def _living_parent(entry: Path) -> int | None:
    try:
        stat = (entry / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent = stat[stat.rindex(")") + 2 :].split()[:2]
    return None if state in "ZX" else int(parent)


def _command_name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
