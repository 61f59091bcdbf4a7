"""Which git repository a folder belongs to, and which folders make up its `.git`."""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

_START_BYTES = 4096
_BARE = re.compile(r"^\s*bare\s*=\s*true\b", re.MULTILINE | re.IGNORECASE)
# What a linked worktree has of its own; in the repository that it belongs to these are the main worktree's.
_OWN_FILES = (
    "HEAD",
    "index",
    "config.worktree",
    "ORIG_HEAD",
    "FETCH_HEAD",
    "MERGE_HEAD",
    "MERGE_MSG",
    "MERGE_MODE",
    "CHERRY_PICK_HEAD",
)
_OWN_OTHERS = ("REVERT_HEAD", "BISECT_LOG", "worktrees", "logs/HEAD", "rebase-merge", "rebase-apply", "index.lock")


@dataclass(frozen=True)
class Checkout:
    """A work tree: its top folder, and what stands there as `.git`: a folder, or a file or link that leads to one."""

    top: Path
    git: Path
    is_folder: bool


@dataclass(frozen=True)
class LinkedWorktree:
    """A worktree made by `git worktree add`: the folder with what is its own, and the repository with all the rest."""

    own: Path
    shared: Path

    @property
    def own_files(self) -> dict[str, None]:
        return dict.fromkeys(_OWN_FILES)

    @property
    def left_out(self) -> frozenset[str]:
        """What of the repository belongs to its other worktrees."""
        return frozenset((*_OWN_FILES, *_OWN_OTHERS))


def find(folder: Path) -> Checkout | None:
    """The checkout that a folder is in, or None.

    Like git's own search it stays on the folder's file system, and like git it does not trust repositories of others: a
    `.git` above the folder must belong to us or to the folder's owner.
    """
    here = folder.stat()
    for top in (folder, *folder.parents):
        git = top / ".git"
        try:
            if top.stat().st_dev != here.st_dev:
                return None
            found = git.lstat()
        except OSError:
            continue
        if top == folder or found.st_uid in (os.geteuid(), here.st_uid):
            return Checkout(top, git, stat.S_ISDIR(found.st_mode))
    return None


def is_top(folder: Path) -> bool:
    """Whether a folder is the top of a checkout, and reached through no symbolic link.

    Git goes by the path: a link in it would show another folder than the one that is copied.
    """
    return os.path.realpath(folder) == str(folder) and os.path.lexists(folder / ".git")


def linked_worktree(checkout: Checkout) -> LinkedWorktree | None:
    """The folders behind a `.git` file, if git itself made it for a worktree; None for anything else.

    A tree from a stranger may come with a `.git` file that names any folder of ours. So the folder named must be one of
    a repository's `worktrees`, and say by itself that it belongs to this `.git` file. Source: gitrepository-layout(5).
    """
    pointer = _first_line(checkout.git)
    if pointer is None or not pointer.startswith("gitdir: "):
        return None
    own = Path(os.path.realpath(checkout.top / pointer.removeprefix("gitdir: ")))
    back = _first_line(own / "gitdir")
    if own.parent.name != "worktrees" or back is None or _first_line(own / "commondir") != "../..":
        return None
    if os.path.realpath(own / back) != os.path.realpath(checkout.git):
        return None
    shared = own.parent.parent
    return None if _is_bare(shared) else LinkedWorktree(own, shared)


def borrows_objects(repository: Path) -> bool:
    """Whether a repository's history is partly in another one (`git clone --shared` or `--reference`)."""
    return (repository / "objects/info/alternates").exists()


def _is_bare(repository: Path) -> bool:
    """Whether a repository has no work tree of its own; its configuration says so, and git would believe it inside."""
    return bool(_BARE.search(_start_of(repository / "config") or ""))


def _first_line(file: Path) -> str | None:
    start = _start_of(file)
    return None if start is None else start.split("\n", 1)[0].rstrip()


def _start_of(file: Path) -> str | None:
    """The first bytes of a regular file, or None."""
    try:
        fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        return os.fsdecode(os.read(fd, _START_BYTES))
    finally:
        os.close(fd)
