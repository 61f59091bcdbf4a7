"""Which VMM is used here, and how many machines may boot at once."""

import os
from pathlib import Path

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.errors import HostUnfit
from pyro_mcp.workspace.host import choose_driver, default_boot_slots

SETTINGS = Settings(Path("/h"), Path("/c"), None, "auto")


@pytest.mark.parametrize("vmm", ["auto", "qemu"])
@pytest.mark.parametrize("confined", [True, False])
def test_qemu_is_what_there_is(vmm: str, confined: bool) -> None:
    driver = choose_driver(Settings(Path("/h"), Path("/c"), None, vmm), confined=confined)
    assert (driver.name, driver.confined, driver.console) == ("qemu", confined, False)


def test_firecracker_is_refused_with_the_variable_to_change() -> None:
    with pytest.raises(HostUnfit) as caught:
        choose_driver(Settings(Path("/h"), Path("/c"), None, "firecracker"), confined=True)
    assert caught.value.code == "vmm_unsupported"
    assert "PYRO_VMM" in (caught.value.hint or "")


async def test_as_many_boot_at_once_as_there_are_processors() -> None:
    slots = default_boot_slots()
    for _ in range(os.cpu_count() or 1):
        assert not slots.locked()
        await slots.acquire()
    assert slots.locked()
