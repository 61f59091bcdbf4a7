"""What git sees in a checkout: tracked files, and untracked ones that are not ignored.

The repository may come from anywhere, so nothing that its configuration names is run. `ls-files` runs no filters, and
what else it could start is switched off: the file system monitor, hooks, and every way to fetch missing objects. Git is
told where repository and work tree are instead of finding them, so a `core.worktree` is of no effect either. Variables
of ours that would send git elsewhere are not passed on.
"""

import asyncio
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pyro_mcp import process
from pyro_mcp.errors import HostUnfit, InvalidRequest
from pyro_mcp.transfer.limits import CHUNK_BYTES, MAX_DEPTH, MAX_ENTRIES, shown, too_large
from pyro_mcp.transfer.tree import Chosen
from pyro_mcp.transfer.worker import in_thread

_SAFE = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "protocol.allow=never")
_PASSED_ON = ("HOME", "XDG_CONFIG_HOME", "PATH")
_FIXED = {
    "LC_ALL": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
}
# Of each entry: a tag (`?` is untracked), of tracked ones mode, object and stage, and the path.
_LIST = ("ls-files", "-z", "-t", "--stage", "--cached", "--others", "--exclude-standard")
_SUBMODULE = b"160000"
_MAX_RECORD = 64 * 1024  # bytes; paths are at most 4096
_STDERR_BYTES = 4096


async def listing(repository: Path, top: Path, folder: Path) -> tuple[Chosen, list[str]]:
    """What git sees in `folder`, which is `top`, the work tree of `repository`, or below it.

    The second value names the folders in it that are repositories of their own, whose files git does not see. Raises
    `HostUnfit` without git, `InvalidRequest` when git cannot read the repository.
    """
    out, out_writer = os.pipe()
    err, err_writer = os.pipe()
    argv = ["git", f"--git-dir={repository}", f"--work-tree={top}", *_SAFE, *_LIST]
    try:
        git = process.spawn(argv, env=_environment(), cwd=folder, stdout=out_writer, stderr=err_writer)
    except BaseException as error:
        os.close(out)
        os.close(err)
        if isinstance(error, FileNotFoundError):
            raise _no_git() from error
        raise
    finally:
        os.close(out_writer)
        os.close(err_writer)
    complaints = process.Tail(err, _STDERR_BYTES)
    try:
        seen = await in_thread(partial(_parse, out), lambda: git.signal(signal.SIGKILL))
        exit_code = await git.wait()
    finally:
        await asyncio.shield(git.stop(0))
        os.close(out)
        said = complaints.finish()
    if exit_code != 0:
        raise _failed(folder, said)
    return seen


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | _FIXED


def _parse(fd: int) -> tuple[Chosen, list[str]]:
    chosen: Chosen = {}
    repositories = []
    for count, record in enumerate(_records(fd)):
        if count >= 3 * MAX_ENTRIES:  # a path in conflict is listed up to three times
            raise too_large(f"more than {MAX_ENTRIES:,} files and folders")
        tag, _, rest = record.partition(b" ")
        head, _, path = (b"", b"", rest) if tag == b"?" else rest.partition(b"\t")
        name = os.fsdecode(path.rstrip(b"/"))
        if _add(chosen, name) and (head.startswith(_SUBMODULE) or path.endswith(b"/")):
            repositories.append(name)
    return chosen, repositories


def _records(fd: int) -> Iterator[bytes]:
    rest = b""
    while data := os.read(fd, CHUNK_BYTES):
        *whole, rest = (rest + data).split(b"\0")
        if len(rest) > _MAX_RECORD:
            raise too_large("a path longer than 4096 bytes")
        yield from whole


def _add(chosen: Chosen, path: str) -> bool:
    """Put a path in; not one that leads elsewhere, as an index made by hand may have."""
    *folders, name = names = path.split("/")
    if len(names) > MAX_DEPTH or any(part in ("", ".", "..") for part in names):
        return False
    for folder in folders:
        below = chosen.setdefault(folder, {})
        if below is None:  # listed as a file, too: a folder now, or it was one
            below = chosen[folder] = {}
        chosen = below
    chosen.setdefault(name, None)
    return True


def _no_git() -> HostUnfit:
    return HostUnfit(
        "missing_program",
        "there is no git on this machine to tell which files of the checkout belong to it",
        "sudo apt-get install git, or take everything with --seed-all",
    )


def _failed(folder: Path, said: bytes) -> InvalidRequest:
    lines = said.decode(errors="replace").splitlines()
    return InvalidRequest(
        "git_failed",
        f"git cannot read the checkout {shown(str(folder))}: {shown(lines[-1] if lines else 'no reason given')}",
        "mend the repository, or take everything as it is with --seed-all",
    )
