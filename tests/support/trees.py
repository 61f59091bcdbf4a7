"""File trees, repositories and archives to copy, and ways to look at what came of them."""

import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import strategies as st

from pyro_mcp.transfer import tree_tar
from pyro_mcp.transfer.host_paths import open_folder
from pyro_mcp.transfer.limits import Tally
from pyro_mcp.transfer.tar_writer import TarWriter
from pyro_mcp.transfer.tree import Chosen, Part
from pyro_mcp.transfer.tree_tar import Owners

LONG = "n" * 120
_GIT = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main")
Seen = tuple[str, int, int, bytes | str]


def sample_tree(folder: Path) -> Path:
    """A folder with one of each: long names, strange names, modes, times, links, empty things."""
    (folder / "src/deep" / LONG).mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "src/main.py").write_text("print()\n")
    (folder / "src/tool").write_text("#!/bin/sh\n")
    (folder / "src/tool").chmod(0o755)
    (folder / "src/deep" / LONG / LONG).write_bytes(os.urandom(70_000))
    (folder / "none").touch()
    (folder / "line\nbreak \\ \t").write_text("x")
    (folder / os.fsdecode(b"not-\xff-utf8")).write_text("y")
    (folder / "link").symlink_to("src/main.py")
    (folder / "out").symlink_to("/etc/passwd")
    (folder / "long-link").symlink_to("t" * 300)
    (folder / "secret").write_text("z")
    (folder / "secret").chmod(0o600)
    os.utime(folder / "none", ns=(1, 1_234_567_890_123_456_789))
    os.utime(folder / "empty", ns=(1, 1_000_000_000_000_000_000))
    return folder


def seen(folder: Path, *, times: bool = True, modes: int = 0o7777) -> dict[str, Seen]:
    """What is in a folder: path to kind, mode (the bits in `modes`), mtime (ns) and content or target."""
    return {str(path.relative_to(folder)): _seen(path, times, modes) for path in sorted(folder.rglob("*"))}


def _seen(path: Path, times: bool, modes: int) -> Seen:
    found = path.lstat()
    mode = stat.S_IMODE(found.st_mode) & modes
    mtime = found.st_mtime_ns if times else 0
    if path.is_symlink():
        return ("symlink", 0o777, mtime, os.readlink(path))
    return ("directory", mode, mtime, b"") if path.is_dir() else ("file", mode, mtime, path.read_bytes())


@contextmanager
def part(folder: Path, chosen: Chosen | None = None, prefix: str = "") -> Iterator[Part]:
    """A folder as a part of a transfer."""
    fd = open_folder(folder)
    try:
        yield Part(fd, str(folder), chosen, prefix)
    finally:
        os.close(fd)


def tar_of(folder: Path, archive: Path, *, exact_times: bool = True, owners: Owners | None = None) -> Tally:
    """Write a folder into a file as our own tar stream."""
    tally = Tally()
    with archive.open("wb") as file, part(folder) as whole:
        writer = TarWriter(file.fileno(), exact_times=exact_times)
        tree_tar.write([whole], writer, owners or Owners.of([whole]), tally)
    return tally


def archive(path: Path, *members: tuple[str, str, bytes | str], mode: str = "w") -> Path:
    """An archive with members as given: name, kind (as tarfile calls it), and content or link target."""
    with tarfile.open(path, mode, format=tarfile.GNU_FORMAT) as tar:  # type: ignore[call-overload]
        for member in members:
            tar.addfile(*member_of(*member))
    return path


def member_of(name: str, kind: str, rest: bytes | str) -> tuple[tarfile.TarInfo, io.BytesIO | None]:
    """One member for tarfile."""
    info = tarfile.TarInfo(name)
    info.type = getattr(tarfile, kind)
    info.mtime = 1_000_000_000
    info.mode = 0o755 if kind == "DIRTYPE" else 0o644
    info.uid = info.gid = 1234
    if isinstance(rest, bytes):
        info.size = len(rest)
        return info, io.BytesIO(rest)
    info.linkname = rest
    return info, None


def tar_bytes(*members: tuple[str, str, bytes | str]) -> bytes:
    """The same in memory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for member in members:
            tar.addfile(*member_of(*member))
    return buffer.getvalue()


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder, with nothing of the user's settings."""
    env = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "HOME": "/"}
    return subprocess.run(
        ["git", *_GIT, *arguments], cwd=folder, env=env, check=True, capture_output=True, text=True
    ).stdout


def repository(folder: Path) -> Path:
    """A checkout with a tracked, an untracked, an ignored and a deleted file."""
    (folder / "src").mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / ".gitignore").write_text("*.log\n/build/\n")
    (folder / "src/kept.py").write_text("kept\n")
    (folder / "deleted").write_text("gone\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    (folder / "deleted").unlink()
    (folder / "src/new.py").write_text("new\n")
    (folder / "trace.log").write_text("ignored\n")
    (folder / "build").mkdir()
    (folder / "build/out").write_text("ignored\n")
    return folder


def unsquashed(image: Path, folder: Path) -> Path:
    """What is in a squashfs image."""
    subprocess.run(["unsquashfs", "-q", "-n", "-no-xattrs", "-d", folder, image], check=True, capture_output=True)
    return folder


_NAMES = st.binary(min_size=1, max_size=150).filter(lambda name: not set(name) & {0, 47} and name not in (b".", b".."))
# A tree to be made: names to bytes (a file), text (a link's target), or the same again (a folder).
Sketch = dict[bytes, "bytes | str | Sketch"]
_LEAVES = st.one_of(
    st.binary(max_size=1500), st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1)
)
sketches: st.SearchStrategy[Sketch] = st.recursive(
    st.dictionaries(_NAMES, _LEAVES, max_size=4),
    lambda below: st.dictionaries(_NAMES, st.one_of(_LEAVES, below), max_size=4),
    max_leaves=12,
)


def draw_tree(folder: Path, sketch: Sketch) -> None:
    """Make the tree of a sketch."""
    folder.mkdir()
    for name, what in sketch.items():
        path = folder / os.fsdecode(name)
        if isinstance(what, bytes):
            path.write_bytes(what)
        elif isinstance(what, str):
            path.symlink_to(what)
        else:
            draw_tree(path, what)


def raises_on(call: Callable[[], object], error: type[BaseException]) -> str:
    """The text of the error that a call raises."""
    try:
        call()
    except error as raised:
        return str(raised)
    raise AssertionError(f"no {error.__name__}")
