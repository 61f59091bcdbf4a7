import asyncio
import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pyro_mcp.errors import HostUnfit, NotFound, SourceFailed
from pyro_mcp.images import catalog
from pyro_mcp.images import pull as pulls
from pyro_mcp.images import store as stores
from pyro_mcp.images.catalog import Environment
from pyro_mcp.images.pull import pull
from pyro_mcp.images.source import Built, Report, Source
from pyro_mcp.images.store import Store
from pyro_mcp.models import EnvironmentInfo
from tests.unit.images.conftest import MIB
from tests.unit.images.fake_source import FakeSource, Seen

NAME = "debian:12"


def start(
    store: Store, source: Source, seen: Seen | None = None, *, only_if_missing: bool = False
) -> "asyncio.Task[EnvironmentInfo]":
    return asyncio.create_task(pull(store, NAME, source, seen or Seen(), only_if_missing=only_if_missing))


async def content(store: Store) -> bytes:
    with await stores.open_verified(store, NAME) as image:
        return os.pread(image.fd, 1000, 0)


def left_over(store: Store) -> list[str]:
    return [*os.listdir(store.staging), *os.listdir(store.images), *os.listdir(store.environments)]


async def test_a_pull_installs_and_reports_its_steps(store: Store) -> None:
    seen = Seen()
    installed = await start(store, FakeSource(b"first"), seen)
    assert (installed.installed, installed.contents) == (True, ("less 1.0", "patch 2.0"))
    assert seen.phases == ["install", "verify", "done"]
    assert {(progress.operation, progress.environment) for progress in seen.progress} == {("pull", NAME)}
    assert await content(store) == b"first"
    assert os.listdir(store.staging) == []


async def test_an_unknown_name_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        await pull(Store(tmp_path / "cache"), "debian:11", FakeSource(), lambda progress: None)
    assert os.listdir(tmp_path) == []


async def test_a_second_pull_replaces_the_image_and_removes_the_old_one(store: Store) -> None:
    await start(store, FakeSource(b"first"))
    await start(store, FakeSource(b"second"))
    assert await content(store) == b"second"
    assert len(os.listdir(store.images)) == 1


async def test_an_image_in_use_stays_whole_when_it_is_replaced(store: Store) -> None:
    await start(store, FakeSource(b"first"))
    with await stores.open_verified(store, NAME) as image:
        await start(store, FakeSource(b"second"))
        assert os.pread(image.fd, 100, 0) == b"first"
        assert store.image_folder(image.digest).is_dir()
    await start(store, FakeSource(b"second"))
    assert len(os.listdir(store.images)) == 1


async def test_the_same_image_again_is_kept_and_not_written_twice(store: Store) -> None:
    first = await start(store, FakeSource())
    inode = image_inode(store, first)
    second = await start(store, FakeSource())
    assert (second.digest, image_inode(store, second)) == (first.digest, inode)
    assert os.listdir(store.staging) == []


def image_inode(store: Store, info: EnvironmentInfo) -> int:
    return (store.image_folder(str(info.digest)) / stores.IMAGE_FILE).stat().st_ino


async def test_a_failed_pull_keeps_what_was_there(store: Store) -> None:
    with pytest.raises(SourceFailed):
        await start(store, FakeSource(failure=SourceFailed("source_failed", "404")))
    assert left_over(store) == []
    await start(store, FakeSource(b"first"))
    with pytest.raises(SourceFailed):
        await start(store, FakeSource(b"second", failure=SourceFailed("source_failed", "404")))
    assert await content(store) == b"first"
    assert os.listdir(store.staging) == []


async def test_a_half_finished_pull_is_never_seen(store: Store) -> None:
    source = FakeSource(held=True)
    task = start(store, source)
    await source.began.wait()
    assert not stores.inspect(store, NAME).installed
    with pytest.raises(NotFound):
        await stores.open_verified(store, NAME)
    source.go_on.set()
    await task
    assert stores.inspect(store, NAME).installed


async def test_a_cancelled_pull_leaves_nothing_and_frees_the_way(store: Store) -> None:
    source = FakeSource(held=True)
    task = start(store, source)
    await source.began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert left_over(store) == []
    await start(store, FakeSource(b"after"))
    assert await content(store) == b"after"


async def test_cancelling_at_any_moment_leaves_all_or_nothing(store: Store) -> None:
    steps = 0
    while True:
        task = start(store, FakeSource())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        try:
            await task
            break
        except asyncio.CancelledError:
            assert os.listdir(store.staging) == []
            if stores.reference(store, NAME) is not None:
                assert await content(store) == b"an image"
        # Dense at first, where every step is another one; later most of them wait for threads.
        steps += 1 + steps // 10
        assert steps < 1_000_000
    assert await content(store) == b"an image"


async def test_two_at_once_make_one_build(store: Store) -> None:
    first, second, seen = FakeSource(b"first", held=True), FakeSource(b"second"), Seen()
    one = start(store, first)
    await first.began.wait()
    two = start(store, second, seen)
    await seen.phase("waiting")
    first.go_on.set()
    assert (await one).digest == (await two).digest
    assert second.builds == 0
    assert seen.phases == ["waiting", "done"]


async def test_who_waited_for_a_failure_builds_by_themselves(store: Store) -> None:
    first = FakeSource(b"first", held=True, failure=SourceFailed("source_failed", "404"))
    second, seen = FakeSource(b"second"), Seen()
    one = start(store, first)
    await first.began.wait()
    two = start(store, second, seen)
    await seen.phase("waiting")
    first.go_on.set()
    with pytest.raises(SourceFailed):
        await one
    await two
    assert await content(store) == b"second"


async def test_who_waited_but_wants_another_source_builds_from_it(store: Store) -> None:
    first, second, seen = FakeSource(b"first", held=True), FakeSource(b"second", request="other"), Seen()
    one = start(store, first)
    await first.began.wait()
    two = start(store, second, seen)
    await seen.phase("waiting")
    first.go_on.set()
    await one
    await two
    assert await content(store) == b"second"


async def test_only_if_missing_builds_once(store: Store) -> None:
    sources = [FakeSource() for _ in range(4)]
    await asyncio.gather(*(start(store, source, only_if_missing=True) for source in sources))
    assert sum(source.builds for source in sources) == 1
    await start(store, sources[0], only_if_missing=True)
    assert sum(source.builds for source in sources) == 1


PULL = """
import asyncio, sys
from pathlib import Path
from pyro_mcp.images.pull import pull
from pyro_mcp.images.store import Store
from tests.unit.images.fake_source import FakeSource

async def main():
    source = FakeSource(b"other", held=True)
    task = asyncio.create_task(pull(Store(Path(sys.argv[1])), "debian:12", source, lambda progress: None))
    await source.began.wait()
    print("began", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    source.go_on.set()
    await task

asyncio.run(main())
"""


def other_process_pulling(store: Store) -> "subprocess.Popen[bytes]":
    other = subprocess.Popen(
        [sys.executable, "-c", PULL, str(store.cache_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"began\n"
    return other


async def test_two_processes_at_once_make_one_build(store: Store) -> None:
    mine, seen = FakeSource(b"mine"), Seen()
    with other_process_pulling(store) as other:
        task = start(store, mine, seen)
        await seen.phase("waiting")
        await asyncio.to_thread(other.communicate)
        await task
    assert other.returncode == 0
    assert (mine.builds, await content(store)) == (0, b"other")


async def test_a_killed_pull_is_taken_over_and_swept_away(store: Store) -> None:
    mine, seen = FakeSource(b"mine"), Seen()
    with other_process_pulling(store) as other:
        task = start(store, mine, seen)
        await seen.phase("waiting")
        assert len(os.listdir(store.staging)) == 1
        other.send_signal(signal.SIGKILL)
        await task
    assert (mine.builds, await content(store)) == (1, b"mine")
    assert os.listdir(store.staging) == []


async def test_too_little_space_is_said_before_anything_is_built(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    huge = Environment(NAME, "", "bookworm", (), build_bytes=1 << 60)
    monkeypatch.setattr(catalog, "CATALOG", (huge,))
    source = FakeSource()
    with pytest.raises(HostUnfit) as caught:
        await start(store, source)
    assert caught.value.code == "no_disk_space"
    free_mib = shutil.disk_usage(store.cache_dir).free // MIB
    assert f"needs {(1 << 60) // MIB} MiB" in caught.value.message
    assert abs(int(caught.value.message.split(" and ")[1].split()[0]) - free_mib) < 10_000
    assert "PYRO_CACHE_DIR" in str(caught.value.hint)
    assert (source.builds, left_over(store)) == (0, [])


class Filling:
    """A source that writes more than a small disk holds."""

    request = "filling"

    async def build(self, environment: Environment, folder: Path, report: Report) -> Built:
        _fill(folder / "image")
        raise AssertionError("the disk was not small")


def _fill(file: Path) -> None:
    file.write_bytes(b"x" * 64 * MIB)


async def test_a_disk_that_fills_up_on_the_way_is_told_apart_and_left_clean(
    small_file_system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "CATALOG", (Environment(NAME, "", "bookworm", (), build_bytes=1),))
    store = Store(small_file_system)
    with pytest.raises(HostUnfit) as caught:
        await start(store, Filling())
    assert caught.value.code == "no_disk_space"
    assert left_over(store) == []
    assert shutil.disk_usage(small_file_system).used < MIB


async def test_other_trouble_with_files_is_not_called_a_full_disk(store: Store) -> None:
    with pytest.raises(OSError, match="input/output") as caught:
        await start(store, FakeSource(failure=OSError(errno.EIO, "input/output error")))
    assert caught.value.errno == errno.EIO
    assert left_over(store) == []


def test_every_environment_says_what_its_build_takes() -> None:
    assert all(pulls._MIB * 100 < row.build_bytes < pulls._MIB * 10_000 for row in catalog.CATALOG)
