"""`sync push` against an agent that unpacks with Python's own tarfile."""

import asyncio
import os
from pathlib import Path

import pytest

from pyro_mcp.errors import HostUnfit, InvalidRequest, NotFound, PyroError
from pyro_mcp.models import Progress
from pyro_mcp.transfer.tar_writer import TarWriter
from pyro_mcp.workspace import sync
from pyro_mcp.workspace_models import SyncPush, SyncReport
from tests.support import fake_tools
from tests.support.descriptors import none_left
from tests.support.live_guest import live_guest
from tests.support.trees import repository, sample_tree, seen


async def quiet(_progress: Progress) -> None:
    pass


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """What is /workspace in the guest."""
    (tmp_path / "inside").mkdir()
    return tmp_path / "inside"


async def test_a_folder_arrives_with_names_modes_times_and_links(tmp_path: Path, inside: Path) -> None:
    tree = sample_tree(tmp_path / "tree")
    steps: list[Progress] = []

    async def report(progress: Progress) -> None:
        steps.append(progress)

    async with live_guest(inside) as (_, guest):
        report_of_it = await sync.push(guest, SyncPush(str(tree), "sub/dir"), report)
    assert seen(inside / "sub/dir", times=False) == seen(tree, times=False)
    content = sum(len(rest) for kind, _, _, rest in seen(tree).values() if kind == "file")
    assert report_of_it == SyncReport(10, content, "/workspace/sub/dir")
    assert (steps[-1].operation, steps[-1].done, steps[-1].total) == ("sync", content, content)


async def test_a_checkout_comes_as_git_sees_it_without_its_repository(tmp_path: Path, inside: Path) -> None:
    folder = repository(tmp_path / "repo")
    async with live_guest(inside) as (_, guest):
        await sync.push(guest, SyncPush(str(folder)), quiet)
        assert set(seen(inside)) == {".gitignore", "src", "src/kept.py", "src/new.py"}
        everything = await sync.push(guest, SyncPush(str(folder), all=True), quiet)
    assert (inside / ".git/HEAD").exists()
    assert (inside / "trace.log").exists()
    assert everything.files > 5


@pytest.mark.parametrize(
    ("source", "dest", "refusal"),
    [
        ("missing", "/workspace", (NotFound, "path_not_found")),
        ("file", "/workspace", (InvalidRequest, "not_a_directory")),
        ("link", "/workspace", (InvalidRequest, "path_is_link")),
        ("tree", "/etc", (InvalidRequest, "outside_workspace")),
        ("tree", "../x", (InvalidRequest, "outside_workspace")),
    ],
)
async def test_bad_requests_reach_no_guest(
    tmp_path: Path, inside: Path, source: str, dest: str, refusal: tuple[type[PyroError], str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "tree").mkdir()
    (tmp_path / "link").symlink_to("tree")
    async with live_guest(inside) as (fake, guest):
        with pytest.raises(refusal[0]) as refused:
            await sync.push(guest, SyncPush(f"{tmp_path}/{source}", dest), quiet)
        assert fake.tools.inputs == []
    assert refused.value.code == refusal[1]


async def test_an_error_of_the_guest_ends_the_reading(tmp_path: Path, inside: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/f").write_bytes(bytes(3_000_000))
    async with live_guest(inside) as (fake, guest):
        fake.tools.answers["unpack"] = fake_tools.ToolFailed("no_space", "the disk is full")
        with pytest.raises(HostUnfit) as refused:
            await sync.push(guest, SyncPush(f"{tmp_path}/tree"), quiet)
    assert refused.value.code == "workspace_full"


async def test_an_error_of_the_host_comes_out_and_the_guest_gets_no_end(
    tmp_path: Path, inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/f").write_bytes(bytes(3_000_000))

    def fails(*_: object) -> None:
        raise PyroError("read_failed", "the disk broke")

    monkeypatch.setattr(TarWriter, "finish", fails)
    async with live_guest(inside) as (_, guest):
        with pytest.raises(PyroError, match="the disk broke"):
            await sync.push(guest, SyncPush(f"{tmp_path}/tree"), quiet)
    assert os.listdir(inside) == []


async def test_cancelling_ends_thread_and_tool(tmp_path: Path, inside: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/f").touch()
    os.truncate(tmp_path / "tree/f", 6 << 30)
    begun = asyncio.Event()

    async def report(progress: Progress) -> None:
        if progress.done:
            begun.set()

    async with live_guest(inside) as (_, guest):
        with none_left():
            pushing = asyncio.create_task(sync.push(guest, SyncPush(f"{tmp_path}/tree"), report))
            await begun.wait()
            pushing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pushing
    assert os.listdir(inside) == []
