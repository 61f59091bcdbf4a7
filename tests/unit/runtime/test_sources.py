from pathlib import Path

import pytest

from pyro_mcp.errors import InternalError
from pyro_mcp.runtime import sources

REPOSITORY = Path(__file__).resolve().parents[3]


def test_the_repositorys_own_data_is_readable() -> None:
    kernel = sources.kernel_source(REPOSITORY / "runtime_sources")
    assert {"virtio_blk", "virtio_console", "vmw_vsock_virtio_transport", "overlay", "squashfs"} <= set(
        kernel.boot_modules
    )
    firecracker = sources.firecracker_source(REPOSITORY / "runtime_sources")
    assert [program.name for program in firecracker.programs] == ["firecracker", "jailer"]


@pytest.mark.parametrize("text", [None, "{", "[]", '{"suite": "bookworm"}'])
def test_data_that_is_missing_or_odd_is_an_error_of_ours(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "kernel.json").write_text(text)
    with pytest.raises(InternalError, match=r"kernel\.json") as caught:
        sources.kernel_source(tmp_path)
    assert caught.value.code == "bad_runtime_sources"
