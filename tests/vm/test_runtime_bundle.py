"""The bundle that `make runtime` built from real packages."""

import asyncio
from pathlib import Path

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.runtime import crates, elf, kernel_package
from pyro_mcp.runtime.assemble import Parts, assemble
from pyro_mcp.runtime.bundle import RuntimeBundle, find_bundle

CHECKOUT = Path(__file__).resolve().parents[2]
BUILT = CHECKOUT / "build" / "runtime_bundle" / "linux-x86_64"
AGENT = CHECKOUT / "build" / "cargo" / "x86_64-unknown-linux-gnu" / "release" / "pyro-agent"

pytestmark = pytest.mark.whole_host


@pytest.fixture
def bundle(tmp_path: Path) -> RuntimeBundle:
    return find_bundle(Settings(tmp_path / "home", tmp_path / "cache", BUILT, "auto"))


def test_it_is_what_its_manifest_says(bundle: RuntimeBundle) -> None:
    bundle.verify()
    listed = {file.path: file.size for file in bundle.manifest.files}
    found = {path.relative_to(BUILT).as_posix(): path.stat().st_size for path in BUILT.rglob("*") if path.is_file()}
    manifest_size = found.pop("manifest.json")
    assert manifest_size > 0
    assert found == listed


def test_every_program_in_it_can_run_where_it_must(bundle: RuntimeBundle) -> None:
    assert elf.is_pvh_kernel(bundle.kernel.read_bytes())
    for program in (bundle.firecracker, bundle.jailer):
        assert elf.is_static_program(program.read_bytes())
        assert program.stat().st_mode & 0o111 == 0o111


def test_the_initramfs_holds_the_agent_and_its_modules(bundle: RuntimeBundle) -> None:
    archive = bundle.initramfs.read_bytes()
    assert AGENT.read_bytes() in archive
    for name in kernel_package.boot_order(CHECKOUT / "build" / "runtime_cache" / "kernel"):
        assert f"modules/{name}\0".encode() in archive
    # Boot needs a channel and disks; a driver for a network card would only cost time.
    assert b"virtio_blk.ko" in archive
    assert b"virtio_console.ko" in archive
    assert b"virtio_net.ko" not in archive


def test_assembling_it_again_gives_the_same_bytes(bundle: RuntimeBundle, tmp_path: Path) -> None:
    parts = Parts(
        AGENT,
        CHECKOUT / "build" / "runtime_cache" / "kernel",
        bundle.firecracker,
        bundle.jailer,
        bundle.components,
        asyncio.run(crates.linked_crates(CHECKOUT / "guest-agent")),
    )
    again = tmp_path / "again"
    again.mkdir()
    assemble(parts, again)
    for path in sorted(path for path in BUILT.rglob("*") if path.is_file()):
        assert (again / path.relative_to(BUILT)).read_bytes() == path.read_bytes(), path.name


def test_the_notice_names_every_part_and_holds_the_licences(bundle: RuntimeBundle) -> None:
    notice = (BUILT / "NOTICE").read_text()
    for component in bundle.components:
        assert f"{component.name} {component.version}\n" in notice
        assert component.licence in notice
    kernel = next(component for component in bundle.components if component.name == "linux")
    assert f"Debian source package linux {kernel.version}" in " ".join(notice.split())
    for licence in ("GNU GENERAL PUBLIC LICENSE", "GNU LESSER GENERAL PUBLIC LICENSE", "Apache License"):
        assert licence in notice


def test_nothing_of_this_machine_is_told(bundle: RuntimeBundle) -> None:
    for path in ("manifest.json", "NOTICE", "initramfs.cpio"):
        assert str(CHECKOUT).encode() not in (BUILT / path).read_bytes(), path
    manifest = (BUILT / "manifest.json").read_text()
    assert "://" not in manifest
    assert "/home/" not in manifest
