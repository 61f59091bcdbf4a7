import asyncio
import stat
from pathlib import Path

import pytest

from pyro_mcp.errors import SourceFailed
from pyro_mcp.runtime import kernel_package
from pyro_mcp.runtime.sources import KernelSource

from . import fakes
from .fake_host import ROW, FakeHost, package

SOURCE = KernelSource("bookworm", "linux-image-fake", "linux", ("GPL-2",), ("b",))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    return FakeHost(tmp_path / "host", monkeypatch)


def prepare(folder: Path) -> list[str]:
    phases: list[str] = []
    folder.mkdir()
    asyncio.run(kernel_package.prepare(SOURCE, folder, phases.append))
    return phases


def test_a_package_becomes_what_a_bundle_needs(tmp_path: Path, host: FakeHost) -> None:
    kernel = tmp_path / "kernel"
    assert prepare(kernel) == ["fetch-kernel", "unpack-kernel", "pack-modules"]
    found = kernel_package.prepared(kernel)
    assert (found.release, found.version) == ("6.1.0-9-fake", "6.1.9-1")
    assert kernel_package.boot_order(kernel) == ("a.ko", "b.ko")
    assert (kernel / "boot" / "a.ko").read_bytes() == b"module a"
    assert (kernel / "vmlinux").read_bytes().startswith(fakes.pvh_kernel())
    assert (kernel / "modules.sqfs").read_bytes().startswith(b"hsqs")
    assert sorted(path.name for path in kernel.iterdir()) == [
        "boot", "copyright", "kernel.json", "licences", "modules.sqfs", "vmlinux"
    ]  # fmt: skip
    assert [path.name for path in (kernel / "licences").iterdir()] == ["GPL-2"]


def test_the_hosts_mirror_and_settings_are_used(tmp_path: Path, host: FakeHost) -> None:
    prepare(tmp_path / "kernel")
    (call,) = host.fetches
    assert "--variant=extract" in call
    assert f"{ROW.split()[-1]} bookworm main" in call
    assert '--aptopt=Acquire::Check-Date "false";' in call
    assert "Languages" not in call


def test_a_mirror_that_fails_is_told_in_its_own_words(tmp_path: Path, host: FakeHost) -> None:
    host.mirror_fails()
    with pytest.raises(SourceFailed, match="mmdebstrap ended with code 25: E: Unable to fetch some archives"):
        prepare(tmp_path / "kernel")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param(package(release="6.1.0-8-other"), "no modules for its kernel", id="modules of another kernel"),
        pytest.param(package(without="./boot/vmlinuz-6.1.0-9-fake"), "0 files boot/vmlinuz", id="no kernel"),
        pytest.param(package(extra={"./boot/vmlinuz-2": b""}), "2 files boot/vmlinuz", id="two kernels"),
        pytest.param(package(extra={"./lib/modules/../../x": b""}), "strange name", id="a path that leads out"),
        pytest.param(package(extra={"/boot/vmlinuz-x": b""}), "strange name", id="an absolute path"),
        pytest.param(package()[:2000], "damaged|0 files", id="cut short"),
        pytest.param(b"no archive", "damaged", id="no archive"),
    ],
)
def test_a_package_of_another_kind_is_refused(tmp_path: Path, host: FakeHost, content: bytes, why: str) -> None:
    host.offer(content)
    with pytest.raises(SourceFailed, match=why) as caught:
        prepare(tmp_path / "kernel")
    assert caught.value.code == "bad_package"
    assert not (tmp_path / "x").exists()


def test_what_is_unpacked_has_the_same_modes_everywhere(tmp_path: Path) -> None:
    (tmp_path / "package.tar").write_bytes(package())
    kernel_package.unpack(tmp_path / "package.tar", tmp_path / "tree", ("GPL-2",))
    found = list((tmp_path / "tree").rglob("*"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_dir()} == {0o755}
    assert {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_file()} == {0o644}
    assert not any(path.is_symlink() for path in found)
    assert not (tmp_path / "tree" / "etc").exists()
