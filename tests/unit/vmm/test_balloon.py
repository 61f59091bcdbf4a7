"""Which machines have a balloon."""

from pathlib import Path

from pyro_mcp.vmm import balloon
from pyro_mcp.vmm.channel import AGENT_SOCKET
from pyro_mcp.vmm.firecracker_api import SOCKET, FirecrackerApi


def test_a_machine_whose_vmm_has_an_api_has_one(tmp_path: Path) -> None:
    (tmp_path / SOCKET).touch()
    assert balloon.of(tmp_path) == FirecrackerApi(tmp_path)


def test_one_under_qemu_has_none(tmp_path: Path) -> None:
    (tmp_path / AGENT_SOCKET).touch()
    assert balloon.of(tmp_path) is None
