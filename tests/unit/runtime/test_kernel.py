import asyncio
from pathlib import Path

import pytest

from pyro_mcp.errors import SourceFailed
from pyro_mcp.runtime import kernel

from . import fakes

LZ4_LEGACY = b"\x02\x21\x4c\x18"


def test_the_kernel_comes_out_as_it_went_in(tmp_path: Path) -> None:
    vmlinux = fakes.pvh_kernel(b"text" * 10_000)
    (tmp_path / "vmlinuz").write_bytes(fakes.bzimage(fakes.lz4_legacy(vmlinux), len(vmlinux)))
    asyncio.run(kernel.extract(tmp_path / "vmlinuz", tmp_path / "vmlinux"))
    assert (tmp_path / "vmlinux").read_bytes() == vmlinux
    assert sorted(path.name for path in tmp_path.iterdir()) == ["vmlinux", "vmlinuz"]


@pytest.mark.parametrize(
    ("content", "size", "why"),
    [
        pytest.param(fakes.pvh_kernel(), 17, "instead of 17", id="another size"),
        pytest.param(fakes.elf((1, b"code")), None, "PVH", id="no PVH entry"),
    ],
)
async def test_what_unpacks_to_no_kernel_is_refused(tmp_path: Path, content: bytes, size: int | None, why: str) -> None:
    image = fakes.bzimage(fakes.lz4_legacy(content), len(content) if size is None else size)
    (tmp_path / "vmlinuz").write_bytes(image)
    with pytest.raises(SourceFailed, match=why) as caught:
        await kernel.extract(tmp_path / "vmlinuz", tmp_path / "vmlinux")
    assert caught.value.code == "bad_kernel"
    assert caught.value.hint


async def test_a_damaged_stream_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(fakes.bzimage(LZ4_LEGACY + b"\xff\xff\xff\x7f rubbish", 100))
    with pytest.raises(SourceFailed, match="lz4"):
        await kernel.extract(tmp_path / "vmlinuz", tmp_path / "vmlinux")


@pytest.mark.parametrize(
    ("image", "why"),
    [
        pytest.param(b"", "no bzImage", id="empty"),
        pytest.param(bytes(4096), "no bzImage", id="zeros"),
        pytest.param(fakes.bzimage(b"\x1f\x8b gzip instead", 100), "LZ4", id="another compression"),
        pytest.param(fakes.bzimage(LZ4_LEGACY + bytes(5000), 100)[:3000], "cut short", id="cut short"),
    ],
)
def test_what_is_no_kernel_image_of_ours_is_refused(image: bytes, why: str) -> None:
    with pytest.raises(SourceFailed, match=why):
        kernel.payload(image)


def test_the_banner_names_release_and_debian_version() -> None:
    assert kernel.banner(fakes.bzimage(b"", 0)) == kernel.Banner("6.1.0-9-fake", "6.1.9-1")


def test_a_kernel_that_is_not_debians_is_refused() -> None:
    with pytest.raises(SourceFailed, match="names no Debian package"):
        kernel.banner(fakes.bzimage(b"", 0, line="6.9.0 (me@here) #1 SMP"))
