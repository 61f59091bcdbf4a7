"""`export` from an agent that packs with Python's own tarfile, or sends what it likes."""

import asyncio
import os
import subprocess
import threading
from pathlib import Path

import pytest

from pyro_mcp.errors import Conflict, GuestFailed, InvalidRequest, NotFound
from pyro_mcp.models import Progress
from pyro_mcp.transfer.landing import Landing
from pyro_mcp.transfer.tar_reader import Source
from pyro_mcp.workspace import export
from pyro_mcp.workspace_models import ExportPath, ExportReport
from tests.support.descriptors import none_left
from tests.support.live_guest import live_guest
from tests.support.trees import git, sample_tree, seen, tar_bytes


async def quiet(_progress: Progress) -> None:
    pass


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """What is /workspace in the guest."""
    (tmp_path / "inside").mkdir()
    return tmp_path / "inside"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An empty folder of the host."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


async def test_a_folder_and_a_file_come_out(inside: Path, out: Path) -> None:
    sample_tree(inside / "sub")
    steps: list[Progress] = []

    async def report(progress: Progress) -> None:
        steps.append(progress)

    async with live_guest(inside) as (_, guest):
        whole = await export.export(guest, ExportPath("sub", f"{out}/x"), report)
        one = await export.export(guest, ExportPath("/workspace/sub/src/main.py", f"{out}/y"), quiet)
    wanted = seen(inside / "sub", times=False, modes=0o755)
    del wanted["out"]
    assert seen(out / "x", times=False) == wanted
    assert (whole.skipped, whole.skipped_kinds) == (("out",), ("links that lead out of what is exported",))
    assert one == ExportReport(f"{out}/y", 1, 8)
    assert (out / "y").read_text() == "print()\n"
    assert (steps[-1].operation, steps[-1].done) == ("export", whole.bytes)
    assert sorted(os.listdir(out)) == ["x", "y"]


async def test_a_repository_comes_out_only_when_asked_for(inside: Path, out: Path) -> None:
    (inside / ".git/hooks").mkdir(parents=True)
    (inside / ".git/hooks/post-checkout").write_text("evil\n")
    (inside / "text").write_text("text\n")
    async with live_guest(inside) as (_, guest):
        plain = await export.export(guest, ExportPath(".", f"{out}/plain"), quiet)
        whole = await export.export(guest, ExportPath(".", f"{out}/whole", include_git=True), quiet)
        with pytest.raises(InvalidRequest) as caught:
            await export.export(guest, ExportPath(".git", f"{out}/bare"), quiet)
    assert (plain.skipped, plain.files, os.listdir(out / "plain")) == ((".git",), 1, ["text"])
    assert (whole.skipped, whole.files) == ((), 2)
    assert (out / "whole/.git/hooks/post-checkout").exists()
    assert caught.value.code == "git_not_exported"
    assert sorted(os.listdir(out)) == ["plain", "whole"]


async def test_a_repository_of_another_name_comes_out_as_a_plain_folder(inside: Path, out: Path) -> None:
    git(inside, "init", "-q", "--bare", "store")
    async with live_guest(inside) as (_, guest):
        plain = await export.export(guest, ExportPath("store", f"{out}/plain"), quiet)
        whole = await export.export(guest, ExportPath("store", f"{out}/whole", include_git=True), quiet)
    assert (plain.skipped, plain.skipped_kinds) == (("HEAD", "config"), ("git repositories",))
    assert (plain.files, whole.files - 2) == (len([path for path in (out / "plain").rglob("*") if path.is_file()]),) * 2
    assert plain.bytes == sum(path.stat().st_size for path in (out / "plain").rglob("*") if path.is_file())
    assert git(out / "whole", "rev-parse", "--is-bare-repository") == "true\n"
    with pytest.raises(subprocess.CalledProcessError):
        git(out / "plain", "rev-parse", "--is-bare-repository")


async def test_what_is_missing_leaves_nothing(inside: Path, out: Path) -> None:
    async with live_guest(inside) as (_, guest):
        with pytest.raises(NotFound):
            await export.export(guest, ExportPath("missing", f"{out}/x"), quiet)
    assert os.listdir(out) == []


async def test_a_place_that_is_taken_is_refused_before_the_guest_is_asked(inside: Path, out: Path) -> None:
    (out / "x").touch()
    async with live_guest(inside) as (fake, guest):
        with pytest.raises(Conflict):
            await export.export(guest, ExportPath(".", f"{out}/x"), quiet)
        assert fake.tools.inputs == []


async def test_pipes_and_devices_are_named(inside: Path, out: Path) -> None:
    (inside / "text").write_text("text\n")
    os.mkfifo(inside / os.fsdecode(b"\x1b[2J\n\xff"))
    os.mkfifo(inside / "HEAD")
    async with live_guest(inside) as (_, guest):
        report = await export.export(guest, ExportPath(".", f"{out}/x"), quiet)
    kinds = ("devices, pipes or sockets",)
    assert report == ExportReport(f"{out}/x", 1, 5, ("\\x1b[2J\\n\\xff", "HEAD"), kinds, 2)
    assert os.listdir(out / "x") == ["text"]


async def test_more_pipes_than_anybody_reads_are_counted(inside: Path, out: Path) -> None:
    async with live_guest(inside) as (fake, guest):
        fake.tools.answers["pack"] = tar_bytes(("./", "DIRTYPE", ""), *[("./p" * 50, "FIFOTYPE", "")] * 5000)
        report = await export.export(guest, ExportPath(".", f"{out}/x"), quiet)
    assert (report.files, report.skipped_count, len(report.skipped)) == (0, 5000, 1001)
    assert report.skipped[-1] == "and 4,000 more"
    assert os.listdir(out / "x") == []


@pytest.mark.parametrize(
    "data",
    [
        b"rubbish" * 1000,
        tar_bytes(("./", "DIRTYPE", ""), ("../x", "REGTYPE", b"x")),
        tar_bytes(("./", "DIRTYPE", ""), ("./../pipe", "FIFOTYPE", "")),
        tar_bytes(("./", "DIRTYPE", ""), ("/pipe", "FIFOTYPE", "")),
        tar_bytes(("./", "DIRTYPE", ""), ("./", "FIFOTYPE", "")),
        tar_bytes(("pipe", "FIFOTYPE", "")),
        tar_bytes(("./", "DIRTYPE", ""))[:512],
        b"\0" * 4_000_000,
    ],
)
async def test_a_guest_that_sends_rubbish_is_told_of(inside: Path, out: Path, data: bytes) -> None:
    async with live_guest(inside) as (fake, guest):
        fake.tools.answers["pack"] = data
        with pytest.raises(GuestFailed, match="archive that cannot be right"):
            await export.export(guest, ExportPath(".", f"{out}/x"), quiet)
    assert os.listdir(out) == []


async def test_cancelling_leaves_nothing(inside: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (inside / "f").write_bytes(os.urandom(4_000_000))
    receiving, cancelled = threading.Event(), threading.Event()
    receive = Landing.receive

    def and_wait(self: Landing, source: Source) -> None:
        source.read(1)
        receiving.set()
        assert cancelled.wait(30)  # until then more comes than the pipe holds
        receive(self, Endless(source))

    monkeypatch.setattr(Landing, "receive", and_wait)
    async with live_guest(inside) as (_, guest):
        with none_left():
            exporting = asyncio.create_task(export.export(guest, ExportPath("f", f"{out}/x"), quiet))
            await asyncio.to_thread(receiving.wait)
            exporting.cancel()
            cancelled.set()
            with pytest.raises(asyncio.CancelledError):
                await exporting
    assert os.listdir(out) == []


class Endless:
    """Swallows what comes, until there is no more."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def read(self, size: int, /) -> bytes:
        while self._source.read(size):
            pass
        return b""


async def test_cancelling_while_the_place_is_made_leaves_nothing(
    inside: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    making, made = threading.Event(), threading.Event()

    def slowly(output: Path, **options: bool) -> Landing:
        landing = Landing(output, **options)
        making.set()
        made.wait()
        return landing

    monkeypatch.setattr(export, "Landing", slowly)
    async with live_guest(inside) as (_, guest):
        exporting = asyncio.create_task(export.export(guest, ExportPath(".", f"{out}/x"), quiet))
        await asyncio.to_thread(making.wait)
        exporting.cancel()
        await asyncio.sleep(0)
        made.set()
        with pytest.raises(asyncio.CancelledError):
            await exporting
    assert os.listdir(out) == []
