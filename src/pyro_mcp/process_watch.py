"""Watching processes that need not be ours: named by pid and start time, seen through a pidfd."""

import asyncio
import contextlib
import os
import select
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def host_boot_id() -> str:
    """What tells this boot of the host from the others."""
    return _BOOT_ID.read_text().strip()


@dataclass(frozen=True)
class Detached:
    """A process that is nobody's child, named for good, also where that is written down: by its pid, the start time
    that tells it from later ones of that pid, and the boot of the host from which start times count."""

    pid: int
    start_time: int
    boot_id: str = field(default_factory=host_boot_id)

    @property
    def is_of_this_boot(self) -> bool:
        """Whether the host has not restarted since, and it may still run."""
        return self.boot_id == host_boot_id()


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since the host's boot, or None if there is none.

    Together with the pid it names a process until the host restarts: pids are used again. Source: proc_pid_stat(5),
    field 22.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name stands in brackets and may hold anything; fields are counted from the last bracket.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def wait_for_end(pid: int, timeout_seconds: float) -> bool:
    """Wait until a process that need not be ours has ended; False if it still runs after the time given."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        deadline = time.monotonic() + timeout_seconds
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        return bool(poller.poll(max(0.0, deadline - time.monotonic()) * 1000))
    finally:
        os.close(pidfd)


class Watched:
    """A process that need not be ours, watched through a pidfd, which `close` drops."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self._pid = pid
        self._pidfd = pidfd
        self._ended = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    @staticmethod
    def find(process: Detached) -> "Watched | None":
        """The process, or None if it has ended, also where its pid is another's by now."""
        if not process.is_of_this_boot:
            return None
        try:
            pidfd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            return None
        # The descriptor came first, so both mean the same process if the start time is the right one.
        if start_time(process.pid) != process.start_time:
            os.close(pidfd)
            return None
        return Watched(process.pid, pidfd)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        if self._pidfd < 0:
            return False
        poller = select.poll()  # `select` itself takes no descriptor from 1024 on
        poller.register(self._pidfd, select.POLLIN)
        return not poller.poll(0)

    async def wait(self) -> None:
        """Wait for its end; safe to cancel and to call from several tasks."""
        if self._loop is None and self._pidfd >= 0:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._pidfd, self._on_end)
        await self._ended.wait()

    def kill(self) -> None:
        """End it, with all of its process group where it leads one; returns before it has ended."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def close(self) -> None:
        """Watch it no longer."""
        if self._pidfd >= 0:
            if self._loop is not None:
                self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _on_end(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._pidfd)
        self._ended.set()
