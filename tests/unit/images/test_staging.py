import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pyro_mcp.images import staging
from pyro_mcp.images.store import Store

WORK = """
import asyncio, sys
from pathlib import Path
from pyro_mcp.images import staging
from pyro_mcp.images.store import Store

async def main():
    async with staging.folder_for(Store(Path(sys.argv[1])), "debian:12") as folder:
        (folder / "half").write_text("done")
        print(folder, flush=True)
        sys.stdin.read()

asyncio.run(main())
"""


def worker(store: Store) -> "tuple[subprocess.Popen[str], Path]":
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, str(store.cache_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


async def test_a_folder_is_gone_after_work_and_after_failure(store: Store) -> None:
    async with staging.folder_for(store, "debian:12") as folder:
        (folder / "file").touch()
    assert not folder.exists()
    with pytest.raises(ValueError, match="no"):
        async with staging.folder_for(store, "debian:12") as folder:
            raise ValueError("no")
    assert list(store.staging.iterdir()) == []


async def test_a_living_worker_keeps_its_folder_and_a_killed_one_loses_it(store: Store) -> None:
    process, folder = worker(store)
    with process:
        await staging.sweep(store)
        assert (folder / "half").read_text() == "done"
        process.send_signal(signal.SIGKILL)
        process.wait()
        await staging.sweep(store)
        assert list(store.staging.iterdir()) == []


async def test_one_sweeper_does_not_touch_what_another_has_taken(store: Store) -> None:
    (store.staging / "debris").mkdir()
    with staging.stale_folders(store) as first, staging.stale_folders(store) as second:
        assert [stale.folder.name for stale in first] == ["debris"]
        assert second == ()


async def test_a_sweep_does_not_follow_links_or_trip_over_files(store: Store, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (store.staging / "link").symlink_to(elsewhere)
    (store.staging / "file").touch()
    os.mkdir(store.staging / "debris")
    await staging.sweep(store)
    assert elsewhere.is_dir()
    assert not (store.staging / "debris").exists()
