"""The one place that starts processes.

Every process started here has an owner that sees its end: `run` waits for it, `spawn` hands back a `Process` whose
owner must `stop` it. A process dies with the thread that started it (PR_SET_PDEATHSIG), but for two kinds. One that is
started without `dies_with_us` sees to its end itself: it asks the kernel for the same, or waits for the end of a pipe
that only we hold open. One that is detached lives on: it is watched by pid and start time (see `process_watch`), by us
or by whoever comes after us.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import struct
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyro_mcp.process_watch import Detached, start_time, wait_for_end
from pyro_mcp.start_gate import StartGate

__all__ = (
    "Completed",
    "Detached",
    "Process",
    "Tail",
    "detach",
    "run",
    "spawn",
    "spawn_detached",
    "start_time",
    "wait_for_end",
)

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True)
_PID = struct.Struct("i")
STOP_GRACE_SECONDS = 2.0


@dataclass(frozen=True)
class Completed:
    """How a process ended: its exit code (negative: the signal that killed it) and the ends of its output."""

    argv: tuple[str, ...]
    exit_code: int
    stdout: bytes
    stderr: bytes


class Process:
    """A running process, watched through a pidfd.

    asyncio's own `wait()` also waits for the pipes' end, and a grandchild that inherited a pipe then makes a dead
    process look alive; a pidfd tells of the process alone.
    """

    def __init__(self, popen: "subprocess.Popen[bytes]") -> None:
        self._popen = popen
        self.pid = popen.pid
        self._pidfd = os.pidfd_open(popen.pid)
        self._ended: asyncio.Future[int] | None = None

    @property
    def exit_code(self) -> int | None:
        """The exit code (negative: a signal), or None while the process runs."""
        return self._popen.poll()

    async def wait(self) -> int:
        """Wait for the end and return the exit code; safe to cancel and to call from several tasks."""
        if self._ended is None:
            loop = asyncio.get_running_loop()
            self._ended = loop.create_future()
            loop.add_reader(self._pidfd, self._on_end, loop)
        return await asyncio.shield(self._ended)

    def _on_end(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self._pidfd)
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(self._popen.wait())

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process alone; nothing happens if it has ended."""
        if self._pidfd < 0:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def kill_group(self) -> None:
        """Kill it with all of its process group; nothing happens if it has ended."""
        if self._pidfd >= 0 and self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    async def stop(self, grace_seconds: float = STOP_GRACE_SECONDS) -> int:
        """End it: SIGTERM, a bounded wait, SIGKILL; always reaped when this returns."""
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_seconds):
                await self.wait()
        except TimeoutError:
            self.signal(signal.SIGKILL)
        return await self.close()

    async def close(self) -> int:
        """Wait for the end of a process that is ending, reap it and drop the pidfd."""
        exit_code = await self.wait()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        return exit_code


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Iterable[int] = (),
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
    limits: Mapping[int, int] | None = None,
    join: int | None = None,
    dies_with_us: bool = True,
) -> Process:
    """Start a process in a session of its own that is killed when the thread that called this ends.

    `env` is the whole environment of the process (None: ours), `limits` maps RLIMIT_... numbers to values, and `join`
    is the open `cgroup.procs` of the control group that it joins. Without `dies_with_us` the program asks to be killed
    by itself, or lives on. Raises `FileNotFoundError` or `PermissionError` when the program cannot be started.
    """
    popen = subprocess.Popen(  # noqa: S603  (argv is a list and never goes through a shell)
        list(argv),
        env=None if env is None else dict(env),
        cwd=cwd,
        pass_fds=tuple(pass_fds),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
        preexec_fn=_ChildSetup(os.getpid(), limits or {}, join, dies_with_us=dies_with_us),  # noqa: PLW1509  (system calls only)
    )
    return Process(popen)


async def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Iterable[int] = (),
    stdin: int = subprocess.DEVNULL,
    keep_bytes: int = 64 * 1024,
) -> Completed:
    """Run a process to its end and return its exit code with the last `keep_bytes` of each output.

    Cancelling this stops the process first. No time limit of its own: use `asyncio.timeout`.
    """
    out, out_writer = os.pipe()
    err, err_writer = os.pipe()
    try:
        process = spawn(argv, env=env, cwd=cwd, pass_fds=pass_fds, stdin=stdin, stdout=out_writer, stderr=err_writer)
    except BaseException:
        os.close(out)
        os.close(err)
        raise
    finally:
        os.close(out_writer)
        os.close(err_writer)
    tails = [Tail(out, keep_bytes), Tail(err, keep_bytes)]
    try:
        exit_code = await process.wait()
    finally:
        await asyncio.shield(process.stop())
        stdout, stderr = (tail.finish() for tail in tails)
    return Completed(tuple(argv), exit_code, stdout, stderr)


def detach(argv: Sequence[str], *, env: Mapping[str, str], pass_fds: Iterable[int], log: int) -> int:
    """Start a process that outlives us, outside our process tree, and return the exit code of its launcher.

    The program started must fork away by itself (see `daemon.launch`): chat hosts signal every descendant that they
    find, and an orphan of an ended launcher is none.
    """
    popen = subprocess.Popen(  # noqa: S603  (argv is a list and never goes through a shell)
        list(argv),
        env=dict(env),
        cwd="/",
        pass_fds=tuple(pass_fds),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    return popen.wait()


def spawn_detached(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path = Path("/"),
    pass_fds: Iterable[int],
    output: int,
    limits: Mapping[int, int],
    join: int | None = None,
    before_start: Callable[[Detached], None],
) -> Detached:
    """Start a process that outlives us, in a session of its own, with `output` as its stdout and stderr.

    `argv` has its program behind a gate (see `start_gate.behind`), however many processes are around it. `before_start`
    is called when the outermost is there, and the program starts after that: for writing down that it exists. Where
    that fails, or we die before it returns, there will be no program: what has not passed its gate ends by itself.
    Blocks meanwhile. Raises what `before_start` does, `ProcessLookupError` when it ended at once, and
    `FileNotFoundError` or `PermissionError` when the outermost program cannot be started.
    """
    told, telling = os.pipe()
    with StartGate() as gate, open(told, "rb", buffering=0) as words:
        try:
            popen = subprocess.Popen(  # noqa: S603  (argv is a list and never goes through a shell)
                list(argv),
                env=dict(env),
                cwd=cwd,
                pass_fds=tuple(pass_fds),
                stdin=gate.inner.fileno(),
                stdout=output,
                stderr=output,
                preexec_fn=_Orphan(telling, limits, join),  # noqa: PLW1509  (system calls only)
            )
        finally:
            os.close(telling)
        popen.wait()
        (pid,) = _PID.unpack(words.read(_PID.size))
        began = start_time(pid)
        if began is None:
            raise ProcessLookupError(f"process {pid} ended before it became a program")
        process = Detached(pid, began)
        before_start(process)
        gate.pass_blocking(lambda: start_time(pid) == began)
        return process


class Tail:
    """Reads a pipe as data comes and keeps the last bytes of it; owns the descriptor."""

    def __init__(self, fd: int, keep_bytes: int) -> None:
        self._fd = fd
        self._keep = keep_bytes
        self._data = bytearray()
        self._loop = asyncio.get_running_loop()
        self.closed = asyncio.Event()  # set when nobody holds the other end any more
        self._news = asyncio.Event()
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._read)

    @property
    def data(self) -> bytes:
        """The last bytes that came."""
        return bytes(self._data)

    async def holds(self, words: bytes) -> bool:
        """Wait until these bytes are among the last that came (True), or nobody can write any more (False)."""
        while words not in self._data and not self.closed.is_set():
            self._news.clear()
            await self._news.wait()
        return words in self._data

    def finish(self) -> bytes:
        """Take what an ended process left in the pipe, without waiting for others that hold it open, and close it."""
        # No more than a pipe holds: somebody else may go on writing for ever.
        left = fcntl.fcntl(self._fd, fcntl.F_GETPIPE_SZ)
        while left > 0 and (count := self._read()):
            left -= count
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        return self.data

    def _read(self) -> int:
        try:
            chunk = os.read(self._fd, 65536)
        except BlockingIOError:
            return 0
        if not chunk:
            self._loop.remove_reader(self._fd)
            self.closed.set()
        self._news.set()
        self._data += chunk
        del self._data[: max(0, len(self._data) - self._keep)]
        return len(chunk)


class _ChildSetup:
    """Runs in the child between fork and exec: sets limits and may ask to be killed when the parent goes."""

    def __init__(self, parent: int, limits: Mapping[int, int], join: int | None, *, dies_with_us: bool) -> None:
        self._parent = parent
        self._limits = limits
        self._join = join
        self._dies_with_us = dies_with_us

    def __call__(self) -> None:
        _bound(self._limits, self._join)
        if not self._dies_with_us:
            return
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # The parent may have died before the call above; then nobody would ever kill us.
        if os.getppid() != self._parent:
            os.kill(os.getpid(), signal.SIGKILL)


def _bound(limits: Mapping[int, int], join: int | None) -> None:
    if join is not None:
        os.write(join, b"0")  # whoever writes it
    for number, value in limits.items():
        _, hard = resource.getrlimit(number)
        # Nobody may go beyond what they were allowed themselves.
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (most, most))


class _Orphan:
    """Runs in the child between fork and exec: makes the program an orphan, and tells its pid."""

    def __init__(self, telling: int, limits: Mapping[int, int], join: int | None) -> None:
        self._telling = telling
        self._limits = limits
        self._join = join

    def __call__(self) -> None:
        parent = os.getpid()
        if os.fork():
            os._exit(0)
        os.setsid()
        # A program that asks to die with its parent must not mean this one, which is about to end.
        wait_for_end(parent, 10)
        _bound(self._limits, self._join)
        os.write(self._telling, _PID.pack(os.getpid()))
