import json
import os
import shutil
from pathlib import Path

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.errors import HostUnfit
from pyro_mcp.runtime import bundle as bundles
from pyro_mcp.runtime import manifest
from pyro_mcp.runtime.assemble import Parts, assemble
from pyro_mcp.runtime.bundle import find_bundle
from pyro_mcp.runtime.manifest import Component

from . import fakes


def make_bundle(folder: Path, scratch: Path) -> Path:
    agent, program = scratch / "agent", scratch / "program"
    agent.write_bytes(fakes.static_program(b"agent"))
    program.write_bytes(fakes.static_program(b"vmm"))
    components = (Component("linux", "6.1.9-1", "Debian", "GPL-2.0-only"),)
    folder.mkdir(parents=True)
    assemble(Parts(agent, fakes.prepared_kernel(scratch / "kernel"), program, program, components, ()), folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle", tmp_path)


def settings(tmp_path: Path, bundle: Path | None) -> Settings:
    return Settings(tmp_path / "home", tmp_path / "cache", bundle, "auto")


def test_a_whole_bundle_is_found_and_found_intact(tmp_path: Path, folder: Path) -> None:
    bundle = find_bundle(settings(tmp_path, folder))
    bundle.verify()
    for path in (bundle.kernel, bundle.initramfs, bundle.modules, bundle.firecracker, bundle.jailer):
        assert path.is_absolute()
        assert path.is_file()
    assert os.access(bundle.jailer, os.X_OK)
    assert bundle.components == (Component("linux", "6.1.9-1", "Debian", "GPL-2.0-only"),)


def test_the_digest_changes_with_any_file(tmp_path: Path, folder: Path) -> None:
    before = find_bundle(settings(tmp_path, folder)).digest
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    data = json.loads((other / manifest.NAME).read_text())
    data["files"][0]["size"] += 1
    (other / manifest.NAME).write_text(json.dumps(data))
    assert find_bundle(settings(tmp_path, other)).digest != before


@pytest.mark.parametrize("path", manifest.PATHS)
def test_one_changed_byte_anywhere_is_found_and_named(tmp_path: Path, folder: Path, path: str) -> None:
    bundle = find_bundle(settings(tmp_path, folder))
    bundle.verify()
    content = bytearray((folder / path).read_bytes())
    content[-1] ^= 1
    (folder / path).write_bytes(content)
    with pytest.raises(HostUnfit, match=path) as caught:
        bundle.verify()
    assert caught.value.code == "corrupt_runtime_bundle"
    assert caught.value.hint


def test_a_file_that_is_gone_is_named(tmp_path: Path, folder: Path) -> None:
    bundle = find_bundle(settings(tmp_path, folder))
    bundle.modules.unlink()
    with pytest.raises(HostUnfit, match=r"modules\.sqfs.*No such file"):
        bundle.verify()


def test_a_second_look_reads_no_file_again(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = find_bundle(settings(tmp_path, folder))
    bundle.verify()

    def no_hashing(*_: object) -> None:
        raise AssertionError("a file was hashed again")

    monkeypatch.setattr("pyro_mcp.digests.hashlib.file_digest", no_hashing)
    bundle.verify()


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path: Path, folder: Path) -> None:
    # Not even root can make folders there.
    bundle = find_bundle(Settings(tmp_path, Path("/proc/pyro"), folder, "auto"))
    bundle.verify()
    assert not bundle.memory.exists()


def test_nothing_is_written_into_the_bundle(tmp_path: Path, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    find_bundle(settings(tmp_path, folder)).verify()
    assert sorted(folder.rglob("*")) == before


def test_the_folder_that_the_settings_name_is_the_only_one_tried(tmp_path: Path) -> None:
    with pytest.raises(HostUnfit, match=str(tmp_path / "nowhere")) as caught:
        find_bundle(settings(tmp_path, tmp_path / "nowhere"))
    assert caught.value.code == "no_runtime_bundle"
    assert "PYRO_RUNTIME_BUNDLE_DIR" in str(caught.value.hint)


def test_a_folder_without_a_bundle_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(HostUnfit, match=str(tmp_path)) as caught:
        bundles.open_bundle(tmp_path, tmp_path / "memory")
    assert caught.value.code == "no_runtime_bundle"


def test_a_spoilt_manifest_is_told_with_its_folder(tmp_path: Path, folder: Path) -> None:
    (folder / manifest.NAME).write_text("{}")
    with pytest.raises(HostUnfit, match=str(folder)) as caught:
        find_bundle(settings(tmp_path, folder))
    assert caught.value.code == "bad_runtime_bundle"
    assert caught.value.hint


def test_a_manifest_that_is_a_folder_is_an_error_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "bundle" / manifest.NAME).mkdir(parents=True)
    with pytest.raises(HostUnfit, match="cannot be read") as caught:
        find_bundle(settings(tmp_path, tmp_path / "bundle"))
    assert caught.value.code == "bad_runtime_bundle"


def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make this package believe that it lies in a checkout in `tmp_path`."""
    package = tmp_path / "checkout" / "src" / "pyro_mcp"
    package.mkdir(parents=True)
    (tmp_path / "checkout" / "runtime_sources").mkdir()
    monkeypatch.setattr(bundles, "_PACKAGE", package)
    return tmp_path / "checkout"


def test_a_checkout_uses_what_it_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = checkout(tmp_path, monkeypatch)
    with pytest.raises(HostUnfit) as caught:
        find_bundle(settings(tmp_path, None))
    assert caught.value.code == "no_runtime_bundle"
    assert caught.value.hint == f"build it: make -C {root} runtime"
    built = make_bundle(root / "build" / "runtime_bundle" / manifest.PLATFORM, tmp_path)
    assert find_bundle(settings(tmp_path, None)).folder == built


def test_an_installed_package_uses_its_own_before_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = checkout(tmp_path, monkeypatch)
    (root / "build" / "runtime_bundle" / manifest.PLATFORM).mkdir(parents=True)
    own = make_bundle(root / "src" / "pyro_mcp" / "runtime_bundle" / manifest.PLATFORM, tmp_path)
    assert find_bundle(settings(tmp_path, None)).folder == own


def test_an_installed_package_without_a_bundle_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "_PACKAGE", tmp_path / "site-packages" / "pyro_mcp")
    with pytest.raises(HostUnfit, match="site-packages") as caught:
        find_bundle(settings(tmp_path, None))
    assert "pip install" in str(caught.value.hint)
