"""Runs build programs where they can act as root, and where ending one ends everything that it started.

A build runs in a PID and a mount namespace of its own. When its first process dies, the kernel kills the others and
takes the mounts away, so nothing can stay behind, not even when this process is killed. An ordinary user gets a user
namespace around it in which they are root, with the host's ids of /etc/subuid for the other users: unlike a plain
`unshare -r` this lets packages give files to other users, and unlike mmdebstrap's own way it keeps the user's access to
their home, which other ids cannot pass.
"""

import asyncio
import contextlib
import os
import pwd
import select
import shutil
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyro_mcp import process
from pyro_mcp.errors import HostUnfit
from pyro_mcp.to_the_end import to_the_end

_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_AS_ROOT = ("--map-root-user", "--map-auto")
_ID_RANGES = (Path("/etc/subuid"), Path("/etc/subgid"))
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSED_ON = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
_KEEP_LINES = 200
_MAX_LINE = 64 * 1024
_KILLED_WITHIN_SECONDS = 10.0
_UNSHARE_ENDS_WITHIN_SECONDS = 1.0


@dataclass(frozen=True)
class Confinement:
    """How commands are started: `prefix` goes before each of them."""

    prefix: tuple[str, ...]


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (negative: a signal) and the last lines of its output."""

    exit_code: int
    lines: tuple[str, ...]


def environment(**extra: str) -> dict[str, str]:
    """The variables that build programs see: a fixed set, and how to reach the network; nothing else of the user's."""
    passed = {name: value for name, value in os.environ.items() if name.lower() in _PASSED_ON}
    fixed = {"PATH": _PATH, "LC_ALL": "C.UTF-8", "HOME": "/"}
    return {**passed, **fixed, **extra}


async def find() -> Confinement:
    """What this host allows. Raises `HostUnfit` with the line that mends it when an ordinary user cannot be root."""
    if os.geteuid() == 0:
        # Root in a container may lack the right to make namespaces; builds work there too, only less tidily.
        works = await _works(_NAMESPACES)
        return Confinement((*_NAMESPACES, "--") if works is None else ())
    missing = _missing_for_user()
    if missing is not None:
        raise missing
    why = await _works((*_NAMESPACES, *_AS_ROOT))
    if why is not None:
        raise HostUnfit(
            "no_user_namespace",
            f"this host lets ordinary users make no user namespaces ({why})",
            "sudo sysctl user.max_user_namespaces=65536 kernel.apparmor_restrict_unprivileged_userns=0 (those that"
            " this kernel has), or pull as root",
        )
    return Confinement((*_NAMESPACES, *_AS_ROOT, "--"))


async def run(
    confinement: Confinement,
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Ended:
    """Run a command to its end, handing each line of its output (stdout and stderr) to `on_line` as it comes.

    Cancelling kills it with all that it started, and returns when they are gone. Raises `FileNotFoundError` when there
    is no such program.
    """
    reader, writer = os.pipe()
    try:
        started = process.spawn([*confinement.prefix, *argv], env=env, cwd=cwd, stdout=writer, stderr=writer)
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    lines = _Lines(reader, on_line)
    try:
        exit_code = await started.wait()
    finally:
        try:
            await to_the_end(_end(started, in_namespace=bool(confinement.prefix)))
        finally:
            kept = lines.finish()
    return Ended(exit_code, kept)


async def remove_tree(folder: Path) -> None:
    """Remove a folder with all in it, also what a build left to other users' ids; no error if it is not there."""
    try:
        await asyncio.to_thread(shutil.rmtree, folder)
    except FileNotFoundError:
        return
    except PermissionError:
        ended = await run(await find(), ["rm", "-rf", "--one-file-system", "--", str(folder)], env=environment())
        if ended.exit_code != 0:
            raise


async def _works(prefix: tuple[str, ...]) -> str | None:
    """None if `true` runs behind this prefix, else why not."""
    ended = await run(Confinement((*prefix, "--")), ["true"], env=environment())
    return None if ended.exit_code == 0 else " ".join(ended.lines[-1:]) or f"exit code {ended.exit_code}"


def _missing_for_user() -> HostUnfit | None:
    if not all(shutil.which(program, path=_PATH) for program in ("newuidmap", "newgidmap")):
        return HostUnfit(
            "no_uidmap", "building as an ordinary user needs newuidmap", "sudo apt-get install uidmap, or pull as root"
        )
    user = _user_name()
    if not all(_has_range(file, user) for file in _ID_RANGES):
        return HostUnfit(
            "no_subuids",
            f"the user {user} has no ids in /etc/subuid and /etc/subgid to build with",
            f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}, or pull as root",
        )
    return None


def _user_name() -> str:
    """The user's name as newuidmap sees it: by id, whatever the environment says."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _has_range(file: Path, user: str) -> bool:
    """Whether the user has a range of ids; source: subuid(5), lines of `name-or-uid:first:count`."""
    with contextlib.suppress(OSError):
        return any(line.split(":")[0] in (user, str(os.getuid())) for line in file.read_text().splitlines())
    return False


async def _end(started: process.Process, *, in_namespace: bool) -> None:
    """Kill what still runs and wait until all of it is gone."""
    if started.exit_code is None:
        if in_namespace:
            # Its first process counts as ended only after all others in the namespace have. It is killed before the
            # `unshare` that waits for it, or it would be left for init to reap.
            await asyncio.to_thread(_kill_and_wait, _pidfds_of_children(started.pid))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_UNSHARE_ENDS_WITHIN_SECONDS):
                    await started.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
    await started.close()


def _pidfds_of_children(pid: int) -> list[int]:
    fds = []
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                fds.append(os.pidfd_open(int(child)))
    return fds


def _kill_and_wait(pidfds: list[int]) -> None:
    for fd in pidfds:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        poller.poll(_KILLED_WITHIN_SECONDS * 1000)
        os.close(fd)


class _Lines:
    """Reads a pipe as data comes, cuts it into lines, and keeps the last ones."""

    def __init__(self, fd: int, on_line: Callable[[str], None] | None) -> None:
        self._fd = fd
        self._on_line = on_line
        self._rest = b""
        self._kept: deque[str] = deque(maxlen=_KEEP_LINES)
        os.set_blocking(fd, False)
        asyncio.get_running_loop().add_reader(fd, self._read)

    def _read(self) -> bool:
        try:
            chunk = os.read(self._fd, 65536)
        except BlockingIOError:
            return False
        if not chunk:
            asyncio.get_running_loop().remove_reader(self._fd)
            return False
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        for line in whole:
            self._take(line)
        self._rest = self._rest[-_MAX_LINE:]
        return True

    def _take(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        self._kept.append(text)
        if self._on_line is not None:
            self._on_line(text)

    def finish(self) -> tuple[str, ...]:
        """Take what the ended process left in the pipe, without waiting for others that hold it open."""
        try:
            while self._read():
                pass
            if self._rest:
                self._take(self._rest)
        finally:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
        return tuple(self._kept)
