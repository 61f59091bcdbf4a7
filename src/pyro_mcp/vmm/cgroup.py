"""A control group (cgroup v2) for each VMM, where this host lets us make some: what its guest and it may use together.

Source of the rules: the kernel's Documentation/admin-guide/cgroup-v2.rst (delegation, no internal processes).
"""

import contextlib
import functools
import hashlib
import logging
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)
_GROUP = "pyro"
_CONTROLLERS = ("memory", "pids")
# Beside the guest's memory: the VMM itself, its translated code where it emulates, and the kernel's part of both.
_MEMORY_BESIDE_GUEST = 1536 << 20  # bytes
_MAX_PROCESSES = 64  # threads count, too: one for each processor of the guest, and a few more
_EMPTY_WITHIN_SECONDS = 2.0
_LOOK_AGAIN_SECONDS = 0.01
_OLD_SECONDS = 60.0


@dataclass(frozen=True)
class Cgroups:
    """Below which group VMMs get theirs."""

    base: Path

    @contextlib.contextmanager
    def joining(self, name: str, mem_mib: int) -> Iterator[int]:
        """A new group with its limits set: a descriptor that takes "0" from a process that joins. Raises `OSError`."""
        group = self.base / name
        group.mkdir(exist_ok=True)
        (group / "memory.max").write_text(str((mem_mib << 20) + _MEMORY_BESIDE_GUEST))
        (group / "pids.max").write_text(str(_MAX_PROCESSES))
        fd = os.open(group / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)

    def remove(self, name: str) -> None:
        """Remove a group whose processes have been killed; waits a moment for the last of them. No error otherwise."""
        deadline = time.monotonic() + _EMPTY_WITHIN_SECONDS
        while not _removed(self.base / name) and time.monotonic() < deadline:
            time.sleep(_LOOK_AGAIN_SECONDS)

    def sweep(self) -> None:
        """Remove the groups that VMMs left which nobody saw the end of."""
        for group in self.base.iterdir():
            # One that is empty because its VMM is only about to join is not old.
            with contextlib.suppress(OSError):
                if group.is_dir() and time.time() - group.stat().st_mtime > _OLD_SECONDS:
                    _removed(group)


@functools.cache
def find() -> Cgroups | None:
    """Where we may make groups with limits, or None; proved by making one, the first time that it is asked for."""
    top = _topmost_that_is_ours()
    if top is None:
        return None
    groups = Cgroups(top / _GROUP)
    try:
        _try(groups, top)
    except OSError:
        with contextlib.suppress(OSError):
            groups.base.rmdir()  # unless VMMs of others are in it
        return None
    return groups


def new_name() -> str:
    """The name of the group of a VMM that works in no folder."""
    return f"vm-{secrets.token_hex(10)}"


def name_for(folder: Path) -> str:
    """The name of the group of the VMM that works in this folder."""
    return f"vm-{hashlib.blake2s(os.fsencode(folder), digest_size=10).hexdigest()}"


def _try(groups: Cgroups, top: Path) -> None:
    probe = f"probe-{os.getpid()}"
    groups.base.mkdir(exist_ok=True)
    try:
        for group in (top, groups.base):
            _enable(group)
        with groups.joining(probe, 1):
            pass
    finally:
        groups.remove(probe)


@contextlib.contextmanager
def joining(name: str, mem_mib: int) -> Iterator[int | None]:
    """As `Cgroups.joining`, or None where we may make no groups, or cannot make this one: it is a second barrier."""
    groups = find()
    if groups is None:
        yield None
        return
    with contextlib.ExitStack() as stack:
        fd = None
        try:
            fd = stack.enter_context(groups.joining(name, mem_mib))
        except OSError as error:
            log.warning("a VMM has no control group of its own: %s", error)
        yield fd


def remove(name: str) -> None:
    """As `Cgroups.remove`, wherever we may make groups."""
    groups = find()
    if groups is not None:
        groups.remove(name)


def sweep() -> None:
    """As `Cgroups.sweep`, wherever we may make groups."""
    groups = find()
    if groups is not None:
        with contextlib.suppress(OSError):
            groups.sweep()


def own_groups() -> tuple[Path, ...]:
    """Our own group and those that it is in, innermost first; none without cgroup v2."""
    mount, own = _mount(), _own_group()
    if mount is None or own is None:
        return ()
    return tuple(group for group in (mount / own, *(mount / own).parents) if group.is_relative_to(mount))


def _topmost_that_is_ours() -> Path | None:
    ours = None
    for group in own_groups():
        if not os.access(group / "cgroup.procs", os.W_OK):
            break
        if os.access(group, os.W_OK):
            ours = group
    return ours


def _mount() -> Path | None:
    """Where cgroup v2 is mounted; source: proc_pid_mountinfo(5)."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return Path(before.split()[4])
    return None


def _own_group() -> str | None:
    """Our own group, relative to the mount; source: cgroups(7)."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::/"):
            return line.removeprefix("0::/")
    return None


def _enable(group: Path) -> None:
    enabled = (group / "cgroup.subtree_control").read_text().split()
    missing = [f"+{name}" for name in _CONTROLLERS if name not in enabled]
    if missing:
        (group / "cgroup.subtree_control").write_text(" ".join(missing))


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
