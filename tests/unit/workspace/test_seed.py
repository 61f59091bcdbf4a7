"""Seeds become images with the real sqfstar, or nothing at all."""

import asyncio
import os
import socket
import subprocess
from pathlib import Path

import pytest

from pyro_mcp.errors import HostUnfit, InternalError, InvalidRequest, NotFound, PyroError
from pyro_mcp.models import Progress
from pyro_mcp.transfer import tree
from pyro_mcp.workspace import seed_image
from pyro_mcp.workspace.seed import build_seed
from pyro_mcp.workspace_models import SeedInfo
from tests.support.trees import LONG, archive, git, repository, sample_tree, seen, unsquashed


class Told:
    """What was reported."""

    def __init__(self) -> None:
        self.steps: list[Progress] = []

    async def __call__(self, progress: Progress) -> None:
        self.steps.append(progress)

    @property
    def notices(self) -> list[str]:
        return [step.detail for step in self.steps if step.phase == "notice"]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder for the image and nothing else."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def listed(image: Path) -> list[list[str]]:
    """The lines of an image's listing: mode, owner, size and so on."""
    listing = subprocess.run(["unsquashfs", "-lln", image], check=True, capture_output=True).stdout
    return [line.split() for line in listing.decode(errors="replace").splitlines() if "squashfs-root" in line]


def zstd(plain: Path, packed: Path) -> None:
    subprocess.run(["zstd", "-q", plain, "-o", packed], check=True)


async def test_a_folder_becomes_an_image(tmp_path: Path, place: Path, told: Told) -> None:
    tree = sample_tree(tmp_path / "tree")
    os.mkfifo(tree / "fifo")
    info = await build_seed(tree, place / "seed", everything=False, report=told)
    (tree / "fifo").unlink()
    whole_seconds = {path: (kind, mode, ns // 10**9, rest) for path, (kind, mode, ns, rest) in seen(tree).items()}
    copy = seen(unsquashed(place / "seed", tmp_path / "copy"))
    assert {path: (kind, mode, ns // 10**9, rest) for path, (kind, mode, ns, rest) in copy.items()} == whole_seconds
    files = [rest for kind, _, _, rest in whole_seconds.values() if kind != "directory"]
    content = sum(len(rest) for rest in files if isinstance(rest, bytes))
    assert info == SeedInfo(str(tree), len(files), content)
    assert told.notices == ["1 sockets, pipes or devices left out"]
    assert (told.steps[0].done, told.steps[0].total, told.steps[0].unit) == (content, content, "bytes")
    assert (place / "seed").stat().st_mode & 0o777 == 0o444
    assert os.listdir(place) == ["seed"]


async def test_all_in_an_image_is_roots(tmp_path: Path, place: Path, told: Told) -> None:
    tree = sample_tree(tmp_path / "tree")
    tree.chmod(0o700)
    await build_seed(tree, place / "seed", everything=False, report=told)
    rows = listed(place / "seed")
    assert {row[1] for row in rows[1:]} == {"0/0"}
    assert rows[0][0] == "drwxr-xr-x"


async def test_git_works_in_the_image_of_a_checkout(tmp_path: Path, place: Path, told: Told) -> None:
    folder = repository(tmp_path / "repo")
    info = await build_seed(folder, place / "seed", everything=False, report=told)
    copy = unsquashed(place / "seed", tmp_path / "copy")
    assert git(copy, "status", "--porcelain") == " D deleted\n?? src/new.py\n"
    assert not (copy / "trace.log").exists()
    everything = await build_seed(folder, place / "all", everything=True, report=told)
    assert everything.files == info.files + 2


@pytest.mark.parametrize(
    ("suffix", "mode"), [(".tar", "w"), (".tar.gz", "w:gz"), (".tgz", "w:gz"), (".tar.zst", "zst")]
)
async def test_an_archive_becomes_an_image(tmp_path: Path, place: Path, told: Told, suffix: str, mode: str) -> None:
    path = tmp_path / f"a{suffix}"
    plain = tmp_path / "plain" if mode == "zst" else path
    archive(
        plain,
        ("top", "DIRTYPE", ""),
        (f"top/{LONG}/{LONG}", "REGTYPE", b"content"),
        ("top/hard", "LNKTYPE", f"top/{LONG}/{LONG}"),
        ("top/soft", "SYMTYPE", "hard"),
        mode="w" if mode == "zst" else mode,
    )
    if mode == "zst":
        zstd(plain, path)
    assert await build_seed(path, place / "seed", everything=False, report=told) == SeedInfo(str(path), 3, 7)
    copy = unsquashed(place / "seed", tmp_path / "copy")
    assert (copy / "top/soft").read_bytes() == b"content"
    assert (copy / "top/hard").samefile(copy / "top" / LONG / LONG)


async def test_an_empty_folder_is_a_seed(tmp_path: Path, place: Path, told: Told) -> None:
    (tmp_path / "empty").mkdir()
    assert (await build_seed(tmp_path / "empty", place / "seed", everything=False, report=told)).files == 0
    assert list(unsquashed(place / "seed", tmp_path / "copy").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ("missing", (NotFound, "path_not_found")),
        ("link", (InvalidRequest, "path_is_link")),
        ("link/sub", (InvalidRequest, "path_is_link")),
        ("socket", (InvalidRequest, "path_unsuitable")),
        ("fifo", (InvalidRequest, "path_unsuitable")),
        ("file.zip", (InvalidRequest, "unknown_archive")),
        ("rubbish.tar", (InvalidRequest, "bad_archive")),
        ("bad.tar", (InvalidRequest, "bad_archive")),
        ("late.tar", (InvalidRequest, "bad_archive")),
    ],
)
async def test_what_is_no_seed_is_refused_and_leaves_nothing(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, name: str, refusal: tuple[type[PyroError], str]
) -> None:
    kind, code = refusal
    (tmp_path / "dir/sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to("dir")
    os.mkfifo(tmp_path / "fifo")
    for file in ("file.zip", "rubbish.tar"):
        (tmp_path / file).write_bytes(b"PK" * 999)
    archive(tmp_path / "bad.tar", ("ok", "REGTYPE", b"x" * 3_000_000), ("/etc/passwd", "REGTYPE", b"x"))
    whole = archive(tmp_path / "late.tar", ("ok", "REGTYPE", b"x" * 3_000_000)).read_bytes()
    (tmp_path / "late.tar").write_bytes(whole[:3_000_832])  # to the byte where an end might be
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        with pytest.raises(kind) as refused:
            await build_seed(tmp_path / name, place / "seed", everything=False, report=Told())
    assert refused.value.code == code
    assert str(tmp_path / name) in refused.value.message
    assert os.listdir(place) == []


async def test_an_image_is_never_half(tmp_path: Path, place: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that fails after megabytes have gone to sqfstar, where a valid archive might have ended."""
    (tmp_path / "tree").mkdir()
    for number in range(4):
        (tmp_path / f"tree/{number}").write_bytes(os.urandom(2_000_000))
    opened = tree.open_file

    def fails_at_last(found: tree.Found, path: str) -> tuple[int, os.stat_result] | None:
        if found.name == "3":
            raise PyroError("read_failed", "the disk broke")
        return opened(found, path)

    monkeypatch.setattr(tree, "open_file", fails_at_last)
    with pytest.raises(PyroError, match="the disk broke"):
        await build_seed(tmp_path / "tree", place / "seed", everything=False, report=told)
    assert os.listdir(place) == []


async def test_cancelling_ends_it_and_leaves_nothing(tmp_path: Path, place: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/large").touch()
    os.truncate(tmp_path / "tree/large", 6 << 30)
    begun = asyncio.Event()

    async def report(progress: Progress) -> None:
        if progress.done:
            begun.set()

    building = asyncio.create_task(build_seed(tmp_path / "tree", place / "seed", everything=False, report=report))
    await begun.wait()
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    assert os.listdir(place) == []
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def test_a_host_without_sqfstar_says_what_to_install(
    tmp_path: Path, place: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seed_image, "_PROGRAM", "no-such-sqfstar")
    (tmp_path / "tree").mkdir()
    with pytest.raises(HostUnfit, match="sqfstar") as refused:
        await build_seed(tmp_path / "tree", place / "seed", everything=False, report=told)
    assert "squashfs-tools" in (refused.value.hint or "")


@pytest.mark.parametrize(("says", "kind"), [("No space left on device", HostUnfit), ("oops", InternalError)])
async def test_a_failing_sqfstar_is_told_of(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, says: str, kind: type[PyroError]
) -> None:
    fake = tmp_path / "fake"
    fake.write_text(f'#!/bin/sh\nfor image; do :; done\ntouch "$image"\necho "{says}" >&2\nexit 1\n')
    fake.chmod(0o755)
    monkeypatch.setattr(seed_image, "_PROGRAM", str(fake))
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/f").write_bytes(bytes(5_000_000))
    with pytest.raises(kind) as refused:
        await build_seed(tmp_path / "tree", place / "seed", everything=False, report=Told())
    assert refused.value.code == ("no_disk_space" if kind is HostUnfit else "seed_failed")
    assert os.listdir(place) == []


async def test_an_image_that_cannot_be_placed_is_told_of(tmp_path: Path, place: Path, told: Told) -> None:
    (tmp_path / "tree").mkdir()
    (place / "seed/in-the-way").mkdir(parents=True)
    with pytest.raises(InternalError, match="could not be kept"):
        await build_seed(tmp_path / "tree", place / "seed", everything=False, report=told)
    assert os.listdir(place) == ["seed"]
