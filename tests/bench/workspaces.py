"""Workspaces: a command's round trip, sync, diff and list, each against the bare thing below it."""

import asyncio
import io
import os
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyro_mcp.config import Settings
from pyro_mcp.guest.client import GuestClient
from pyro_mcp.guest.messages import Exec, Exited, Started
from pyro_mcp.sdk import Pyro
from tests.bench.live import exec_seconds
from tests.bench.report import Ratio

_ROUNDS = 7
_SDK_EXECS = 40
_SYNC_FILES = 2000
_SYNC_BYTES = 64 << 20
_LISTED = 200
_PART = 256 * 1024


async def exec_over_the_sdk(guest: GuestClient, settings: Settings) -> Ratio:
    """`true` in a workspace through SDK and daemon, against the guest protocol alone in this process."""
    sdk = Pyro(settings)
    ours, bare = [], []
    with _workspace(sdk) as workspace:
        for _ in range(_ROUNDS):
            ours.append(await asyncio.to_thread(_sdk_execs, sdk, workspace))
            bare.append(await exec_seconds(guest))
    return Ratio("SDK exec of true / guest protocol exec", tuple(ours), tuple(bare), 1.5)


def _sdk_execs(sdk: Pyro, workspace: str) -> float:
    began = time.perf_counter()
    for _ in range(_SDK_EXECS):
        assert sdk.exec_workspace(workspace, ["/bin/true"]).exit_code == 0
    return (time.perf_counter() - began) / _SDK_EXECS


async def sync_against_tar(guest: GuestClient, settings: Settings, folder: Path) -> Ratio:
    """2,000 files (64 MiB) pushed into a workspace, against a ready tar streamed to the guest's own `tar`."""
    source = folder / "sync"
    _make_files(source)
    archive = _archive(source)
    sdk = Pyro(settings)
    ours, bare = [], []
    with _workspace(sdk) as workspace:
        for number in range(_ROUNDS):
            ours.append(await asyncio.to_thread(_push, sdk, workspace, source, f"/workspace/{number}"))
            bare.append(await _untar(guest, archive, f"/bench-{number}"))
    return Ratio("sync of 2,000 files, 64 MiB / bare tar", tuple(ours), tuple(bare), 2.0)


def _make_files(folder: Path) -> None:
    folder.mkdir()
    block = os.urandom(_SYNC_BYTES // _SYNC_FILES)
    for number in range(_SYNC_FILES):
        below = folder / f"folder-{number % 50}"
        below.mkdir(exist_ok=True)
        (below / f"file-{number}").write_bytes(block)


def _archive(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(folder, ".")
    return buffer.getvalue()


def _push(sdk: Pyro, workspace: str, source: Path, dest: str) -> float:
    began = time.perf_counter()
    assert sdk.push_workspace_sync(workspace, str(source), dest=dest).files == _SYNC_FILES
    return time.perf_counter() - began


async def _untar(guest: GuestClient, archive: bytes, folder: str) -> float:
    began = time.perf_counter()
    script = f"mkdir {folder} && exec tar -xf - -C {folder}"
    async with guest.exec(Exec(argv=("sh", "-c", script), stdin=True)) as command:
        async for event in command.events():
            if isinstance(event, Started):
                for start in range(0, len(archive), _PART):
                    await command.write_stdin(archive[start : start + _PART])
                await command.close_stdin()
            elif isinstance(event, Exited):
                assert event.exit_code == 0
    return time.perf_counter() - began


def diff_by_size(settings: Settings, folder: Path) -> Ratio:
    """10 changes among 100,000 files against 10 changes among 1,000 files."""
    sdk = Pyro(settings)
    large, small = _many_files(folder / "large", 100_000), _many_files(folder / "small", 1000)
    ours, bare = [], []
    with _workspace(sdk, large) as big, _workspace(sdk, small) as little:
        for workspace in (big, little):
            change = "for n in 1 2 3 4 5 6 7 8 9 10; do echo changed >>folder-1/file-$n; done"
            assert sdk.exec_workspace(workspace, ["sh", "-c", change]).exit_code == 0
        for _ in range(_ROUNDS):
            ours.append(_diff_seconds(sdk, big))
            bare.append(_diff_seconds(sdk, little))
    return Ratio("diff of 10 in 100,000 files / 10 in 1,000", tuple(ours), tuple(bare), 2.0)


def _many_files(folder: Path, count: int) -> Path:
    """`count` small files, ten of which are /folder-1/file-1 to file-10."""
    for number in range(count):
        below = folder / f"folder-{number // 100 + 1}"
        if number % 100 == 0:
            below.mkdir(parents=True)
        (below / f"file-{number % 100 + 1}").write_text(f"file {number}\n")
    return folder


def _diff_seconds(sdk: Pyro, workspace: str) -> float:
    began = time.perf_counter()
    assert len(sdk.diff_workspace(workspace).entries) == 10
    return time.perf_counter() - began


@contextmanager
def _workspace(sdk: Pyro, seed: Path | None = None) -> Iterator[str]:
    made = sdk.create_workspace("debian:12", seed_path=None if seed is None else str(seed))
    try:
        yield made.workspace_id
    finally:
        sdk.delete_workspace(made.workspace_id)
        sdk.prune_workspaces(workspace=made.workspace_id)
