import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.doctor import bundle, kvm, qemu
from pyro_mcp.doctor.report import Status
from pyro_mcp.doctor.shared import Once, Shared
from pyro_mcp.errors import HostUnfit
from tests.unit.doctor.small_bundle import make_bundle


@pytest.fixture
def with_bundle(settings: Settings, tmp_path: Path) -> Settings:
    return replace(settings, runtime_bundle_dir=make_bundle(tmp_path / "bundle"))


async def test_what_many_want_is_found_once() -> None:
    calls = []

    async def find() -> int:
        calls.append(1)
        await asyncio.sleep(0)
        return 7

    once = Once(find)
    assert list(await asyncio.gather(once.get(), once.get())) == [7, 7]
    assert await once.get() == 7
    assert len(calls) == 1


async def test_all_who_want_it_get_the_error() -> None:
    async def find() -> int:
        raise HostUnfit("x", "not here")

    once = Once(find)
    results = await asyncio.gather(once.get(), once.get(), return_exceptions=True)
    assert [type(result) for result in results] == [HostUnfit, HostUnfit]


async def test_who_stops_waiting_leaves_the_others_waiting() -> None:
    go = asyncio.Event()
    once = Once(go.wait)
    first, second = asyncio.create_task(once.get()), asyncio.create_task(once.get())
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    go.set()
    assert await second


async def test_a_whole_bundle_is_told_with_its_versions(with_bundle: Settings) -> None:
    row = await bundle.examine(Shared(with_bundle))
    assert row.status is Status.PASS
    assert "all 6 files" in row.found
    assert "linux 6.1-test" in row.found


async def test_every_damaged_file_is_named_however_often_it_was_whole_before(
    with_bundle: Settings, tmp_path: Path
) -> None:
    assert (await bundle.examine(Shared(with_bundle))).status is Status.PASS
    (tmp_path / "bundle" / "vmlinux").write_bytes(b"other")
    (tmp_path / "bundle" / "bin" / "jailer").unlink()
    row = await bundle.examine(Shared(with_bundle))
    assert row.status is Status.FAIL
    assert "vmlinux is not what the manifest says" in row.found
    assert "bin/jailer cannot be read" in row.found
    assert "modules.sqfs" not in row.found


async def test_without_a_bundle_no_guest_is_tried(settings: Settings, tmp_path: Path) -> None:
    shared = Shared(replace(settings, runtime_bundle_dir=tmp_path / "nothing"))
    rows = [await check.examine(shared) for check in (bundle, kvm, qemu)]
    assert [row.status for row in rows] == [Status.FAIL, Status.WARN, Status.FAIL]
    assert all("PYRO_RUNTIME_BUNDLE_DIR" in (row.mend or "") for row in rows)


async def test_a_vmm_that_this_version_cannot_drive_is_refused(with_bundle: Settings) -> None:
    row = await qemu.examine(Shared(replace(with_bundle, vmm="firecracker")))
    assert row.status is Status.FAIL
    assert "PYRO_VMM" in (row.mend or "")
